package voices

import (
	"fmt"
	"math"
)

// The shape of CAM++ (H. Wang et al., CAM++: A Fast and Efficient Network for Speaker Verification Using Context-Aware Masking,
// 2023), as 3D-Speaker trained it.
const (
	planes      = 32  // of the two-dimensional part
	stem        = 128 // channels before the first block
	growth      = 32  // channels that a layer adds
	neck        = 128 // channels within a layer
	segment     = 100 // frames of context that share a mask
	vectorSize  = 192
	batchNormEp = 1e-5
)

// denseBlocks are the layers of each block and the dilation of their kernels.
var denseBlocks = []struct{ layers, dilation int }{{12, 1}, {24, 2}, {16, 2}}

// Embedder returns CAM++ as an ONNX model: "features" of [N, T, Bands] to "embedding" of [N, 192]. saved are its weights as PyTorch
// saves them.
func Embedder(saved []byte) ([]byte, error) {
	w, err := readWeights(saved)
	if err != nil {
		return nil, err
	}
	c := &camPlus{w: w}
	c.value(graphIn, "features", 0, 0, Bands)
	x := c.head("features")
	x = c.trunk(x)
	c.pool(x, "embedding")
	c.value(graphOut, "embedding", 0, vectorSize)
	if w.err != nil {
		return nil, w.err
	}
	return c.model("CAM++"), nil
}

// camPlus writes the graph of the network.
type camPlus struct {
	graph
	w      *weights
	frames string // number of frames within the trunk, as a list of one
}

// norm is a batch normalisation of channels: a factor and a summand for each.
func (c *camPlus) norm(name string, channels int, affine bool) (factor, summand []float32) {
	mean, variance := c.w.tensor(name+".running_mean", channels), c.w.tensor(name+".running_var", channels)
	factor, summand = make([]float32, channels), make([]float32, channels)
	for i := range factor {
		factor[i] = float32(1 / math.Sqrt(float64(variance[i])+batchNormEp))
	}
	if affine {
		weight := c.w.tensor(name+".weight", channels)
		for i := range factor {
			factor[i] *= weight[i]
		}
		copy(summand, c.w.tensor(name+".bias", channels))
	}
	for i := range factor {
		summand[i] -= mean[i] * factor[i]
	}
	return factor, summand
}

// folded is a kernel with the normalisation after it folded in, and its bias.
func (c *camPlus) folded(kernel, norm string, dims ...int) (weight, bias string) {
	values := c.w.tensor(kernel+".weight", dims...)
	factor, summand := c.norm(norm, dims[0], norm != "xvector.dense.nonlinear.batchnorm")
	each := len(values) / dims[0]
	for i := range values {
		values[i] *= factor[i/each]
	}
	return c.floats(values, dims...), c.floats(summand, dims[0])
}

func (c *camPlus) relu(x string) string { return c.op("Relu", []string{x}) }

// head is the two-dimensional part: it brings the bands from 80 to 10 and keeps the frames.
func (c *camPlus) head(x string) string {
	x = c.op("Transpose", []string{x}, ints("perm", 0, 2, 1))
	x = c.op("Unsqueeze", []string{x, c.integers(1)})
	x = c.relu(c.conv2("head.conv1", "head.bn1", x, 1, 3, 1))
	for layer := 1; layer <= 2; layer++ {
		for block := range 2 {
			name := fmt.Sprintf("head.layer%d.%d", layer, block)
			stride, past := int64(2-block), x
			y := c.relu(c.conv2(name+".conv1", name+".bn1", x, planes, 3, stride))
			y = c.conv2(name+".conv2", name+".bn2", y, planes, 3, 1)
			if stride != 1 {
				past = c.conv2(name+".shortcut.0", name+".shortcut.1", x, planes, 1, stride)
			}
			x = c.relu(c.op("Add", []string{y, past}))
		}
	}
	x = c.relu(c.conv2("head.conv2", "head.bn2", x, planes, 3, 2))
	return c.op("Reshape", []string{x, c.integers(0, planes*Bands/8, -1)})
}

// conv2 is a convolution over bands and frames, whose stride is over bands.
func (c *camPlus) conv2(kernel, norm, x string, in, size int, stride int64) string {
	weight, bias := c.folded(kernel, norm, planes, in, size, size)
	pad := int64(size / 2)
	return c.op("Conv", []string{x, weight, bias}, ints("strides", stride, 1), ints("pads", pad, pad, pad, pad))
}

// trunk is the part of dense blocks over frames, of which it halves the number.
func (c *camPlus) trunk(x string) string {
	weight, bias := c.folded("xvector.tdnn.linear", "xvector.tdnn.nonlinear.batchnorm", stem, planes*Bands/8, 5)
	x = c.relu(c.op("Conv", []string{x, weight, bias}, ints("strides", 2), ints("pads", 2, 2)))
	c.frames = c.op("Slice", []string{c.op("Shape", []string{x}), c.integers(2), c.integers(3)})
	channels := stem
	for b, block := range denseBlocks {
		for l := range block.layers {
			name := fmt.Sprintf("xvector.block%d.tdnnd%d", b+1, l+1)
			x = c.op("Concat", []string{x, c.layer(name, x, channels, int64(block.dilation))}, attribute{name: "axis", int: 1})
			channels += growth
		}
		name := fmt.Sprintf("xvector.transit%d", b+1)
		y := c.normed(name+".nonlinear.batchnorm", x, channels)
		if b == len(denseBlocks)-1 {
			weight, bias := c.folded(name+".linear", "xvector.out_nonlinear.batchnorm", channels/2, channels, 1)
			x = c.relu(c.op("Conv", []string{y, weight, bias}))
		} else {
			x = c.op("Conv", []string{y, c.floats(c.w.tensor(name+".linear.weight", channels/2, channels, 1), channels/2, channels, 1)})
		}
		channels /= 2
	}
	return x
}

// normed is normalisation and ReLU of what no convolution comes just before.
func (c *camPlus) normed(norm, x string, channels int) string {
	factor, summand := c.norm(norm, channels, true)
	x = c.op("Mul", []string{x, c.floats(factor, 1, channels, 1)})
	return c.relu(c.op("Add", []string{x, c.floats(summand, 1, channels, 1)}))
}

// layer is one dense layer with its context-aware mask. The mask is the same for all frames of a segment, so it is computed once
// for each and repeated then.
func (c *camPlus) layer(name, x string, channels int, dilation int64) string {
	h := c.normed(name+".nonlinear1.batchnorm", x, channels)
	weight, bias := c.folded(name+".linear1", name+".nonlinear2.batchnorm", neck, channels, 1)
	h = c.relu(c.op("Conv", []string{h, weight, bias}))
	cam := name + ".cam_layer"
	local := c.op("Conv", []string{h, c.floats(c.w.tensor(cam+".linear_local.weight", growth, neck, 3), growth, neck, 3)},
		ints("dilations", dilation), ints("pads", dilation, dilation))
	all := c.op("ReduceMean", []string{h}, ints("axes", 2))
	segments := c.op("AveragePool", []string{h}, ints("kernel_shape", segment), ints("strides", segment),
		attribute{name: "ceil_mode", int: 1})
	mask := c.op("Add", []string{segments, all})
	mask = c.relu(c.biased(cam+".linear1", mask, neck/2, neck))
	mask = c.op("Sigmoid", []string{c.biased(cam+".linear2", mask, growth, neck/2)})
	mask = c.op("Expand", []string{c.op("Unsqueeze", []string{mask, c.integers(3)}), c.integers(1, 1, 1, segment)})
	mask = c.op("Reshape", []string{mask, c.integers(0, growth, -1)})
	mask = c.op("Slice", []string{mask, c.integers(0), c.frames, c.integers(2)})
	return c.op("Mul", []string{local, mask})
}

// biased is a convolution of one frame with a bias of its own.
func (c *camPlus) biased(name, x string, out, in int) string {
	return c.op("Conv", []string{
		x, c.floats(c.w.tensor(name+".weight", out, in, 1), out, in, 1), c.floats(c.w.tensor(name+".bias", out), out),
	})
}

// pool brings all frames to one vector: mean and standard deviation, and a projection of both.
func (c *camPlus) pool(x, out string) {
	mean := c.op("ReduceMean", []string{x}, ints("axes", 2))
	off := c.op("Sub", []string{x, mean})
	sum := c.op("ReduceSum", []string{c.op("Mul", []string{off, off}), c.integers(2)})
	// Of one frame less, as PyTorch's std does; of one where there is but one.
	n := c.op("Max", []string{c.op("Sub", []string{c.frames, c.integers(1)}), c.integers(1)})
	variance := c.op("Div", []string{sum, c.op("Cast", []string{n}, attribute{name: "to", int: typeFloat})})
	both := c.op("Concat", []string{mean, c.op("Sqrt", []string{variance})}, attribute{name: "axis", int: 1})
	weight, bias := c.folded("xvector.dense.linear", "xvector.dense.nonlinear.batchnorm", vectorSize, 2*stem*4, 1)
	vector := c.op("Conv", []string{both, weight, bias})
	c.node("Squeeze", []string{vector, c.integers(2)}, out)
}
