/** What to use instead of tf.js kernels that cannot be compiled, by the kernel's name. */
const insteadOf: Readonly<Record<string, string>> = {
  AvgPool3D: 'tf.avgPool over two axes and then over the third (tf.reshape between them)',
  MaxPool3D: 'tf.maxPool over two axes and then over the third (tf.reshape between them)',
  Bincount: 'tf.sum of tf.oneHot',
  DenseBincount: 'tf.sum of tf.oneHot',
  BroadcastArgs: 'shapes, which are known while the program is compiled',
  Complex: 'two real tensors',
  ComplexAbs: 'two real tensors',
  Real: 'two real tensors',
  Imag: 'two real tensors',
  FFT: 'a product with the matrix of the discrete Fourier transform',
  IFFT: 'a product with the matrix of the discrete Fourier transform',
  Conv3D: 'tf.conv2d of the slices along the third axis, added up',
  Conv3DBackpropFilterV2: 'tf.conv2d of the slices along the third axis, added up',
  Conv3DBackpropInputV2: 'tf.conv2dTranspose of the slices along the third axis, added up',
  CropAndResize: 'tf.slice and tf.image.resizeBilinear, or crops made before the program',
  RotateWithOffset: 'images that are rotated before the program',
  Transform: 'images that are transformed before the program',
  Dilation2D: 'tf.maxPool, which is a dilation with a flat element',
  Draw: 'an output of the program, drawn by the caller',
  LRN: 'a division by a power of tf.conv2d(tf.square(x), ...) with a filter of ones over neighbouring channels',
  MaxPoolWithArgmax: 'tf.maxPool',
  Multinomial: 'random numbers passed as an input, compared with tf.cumsum of the probabilities',
  NonMaxSuppressionV3: 'boxes and scores as outputs of the program, and the suppression outside',
  NonMaxSuppressionV4: 'boxes and scores as outputs of the program, and the suppression outside',
  NonMaxSuppressionV5: 'boxes and scores as outputs of the program, and the suppression outside',
  Unique: 'values and places found before the program: the sizes of a program are fixed',
};

/** Kernels of ragged, sparse and text data. */
const prepared = /^(Ragged|Sparse|String|StaticRegex)/;

/** What to use instead of a kernel that cannot be compiled. */
export function insteadOfKernel(kernel: string): string {
  return insteadOf[kernel] ?? (prepared.test(kernel) ? 'dense tensors of numbers, prepared before the program' : 'other tf.js operations (src/compiler/kernels lists those supported)');
}

/** Kernels that compile but whose gradient does not exist, and what to use instead. */
export const withoutGradient: Readonly<Record<string, string>> = {
  Cumprod: 'tf.exp(tf.cumsum(tf.log(x))) for positive x',
  ...Object.fromEntries([
    'Conv2DBackpropFilter', 'DepthwiseConv2dNativeBackpropInput', 'DepthwiseConv2dNativeBackpropFilter', 'MaxPoolGrad', 'AvgPoolGrad', 'ResizeBilinearGrad', 'ResizeNearestNeighborGrad', 'EluGrad',
    'GroupedConv2D', 'GroupedConv2DBackpropInput', 'GroupedConv2DBackpropFilter', 'Standardize', 'NormalizeBatch', 'MultiHeadAttention',
  ].map((kernel) => [kernel, 'first derivatives: gradients of gradients do not exist for convolutions, pooling, resizing, normalization and attention'])),
};
