"""stub"""
import math, tensorflow as tf
def num_terms(norm, dtype, tolerance=None):
    tol = tolerance or (1e-6 if tf.as_dtype(dtype) == tf.float32 else 1e-13)
    n = 1
    while math.exp(norm) * sum(norm**i / math.factorial(i) for i in range(n + 1, n + 60)) > tol:
        n += 1
    return n
def exponential_action(matvec, x, terms):
    y = t = x
    for i in range(1, terms + 1):
        t = matvec(t) / i
        y = y + t
    return y
def conv_exponential(x, kernel, *, inverse=False, padding="zero", terms, steps=1):
    kernel = kernel / tf.cast(steps, kernel.dtype) * (-1 if inverse else 1)
    kh, kw = kernel.shape[:2]
    def mv(t):
        if padding == "zero":
            return tf.nn.conv2d(t, kernel, 1, "SAME")
        a, b = kh // 2, kw // 2
        if a: t = tf.concat([t[:, -a:], t, t[:, :a]], 1)
        if b: t = tf.concat([t[:, :, -b:], t, t[:, :, :b]], 2)
        return tf.nn.conv2d(t, kernel, 1, "VALID")
    if isinstance(steps, int):
        for _ in range(steps):
            x = exponential_action(mv, x, terms)
        return x
    return tf.while_loop(lambda i, v: i < steps, lambda i, v: (i + 1, exponential_action(mv, v, terms)), [0, x])[1]
