"""Papers that several models come from."""

CONVEXP = (
    "Hoogeboom, Garcia Satorras, Tomczak, Welling, The Convolution Exponential and Generalized "
    "Sylvester Flows, NeurIPS 2020, arXiv:2006.01910"
)
EMERGING = (
    "Hoogeboom, van den Berg, Welling, Emerging Convolutions for Generative Normalizing Flows, "
    "ICML 2019, arXiv:1901.11137"
)
GLOW = "Kingma, Dhariwal, Glow, NeurIPS 2018, arXiv:1807.03039"
RQ_NSF = (
    "Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows, NeurIPS 2019, arXiv:1906.04032"
)
WOODBURY = "Lu, Huang, Woodbury Transformations for Deep Generative Flows, arXiv:2002.12229"
