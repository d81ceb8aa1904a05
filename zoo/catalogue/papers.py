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
BALANCED = "Liao, He, Jacobian Determinant of Normalizing Flows, 2021, arXiv:2102.06539"
REALNVP = (
    "Dinh, Sohl-Dickstein, Bengio, Density Estimation using Real NVP, ICLR 2017, arXiv:1605.08803"
)
RESIDUAL = (
    "Chen, Behrmann, Duvenaud, Jacobsen, Residual Flows for Invertible Generative Modeling, "
    "NeurIPS 2019, arXiv:1906.02735"
)
MAF = "Papamakarios, Pavlakou, Murray, MAF, NeurIPS 2017, arXiv:1705.07057"
TARFLOW = (
    "Zhai et al., Normalizing Flows are Capable Generative Models (TarFlow), 2024, arXiv:2412.06329"
)
JET = (
    "Kolesnikov, Pinto, Tschannen, Jet: A Modern Transformer-Based Normalizing Flow, 2024, "
    "arXiv:2412.15129"
)
GNF = "Liu, Kumar, Ba, Kiros, Swersky, Graph Normalizing Flows, NeurIPS 2019, arXiv:1905.13177"
# What Hoogeboom et al. (2020) compare the convolution exponential with: in words, and the paper.
MIXING_BASELINES = {
    "emerging": ("emerging convolutions", EMERGING),
    "periodic": ("periodic convolutions", EMERGING),
    "woodbury": ("Woodbury transformations", WOODBURY),
}
# The volume-balanced flow, without and with convolution exponentials: in words, and the papers.
BALANCED_FLOWS = {
    "balanced": ("volume-balanced flow", BALANCED),
    "convexp_balanced": (
        "volume-balanced flow with convolution exponentials",
        f"{BALANCED}; {CONVEXP}",
    ),
}
