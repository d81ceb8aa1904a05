"""stub"""
import tensorflow as tf
def conv_norm_bound(kernel):
    return tf.reduce_sum(tf.linalg.norm(kernel, axis=[-2, -1]))
