package voices

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// The network is CAM++ as 3D-Speaker publishes it (speakerlab/models/campplus; Wang et al., "CAM++: A Fast and Efficient Network
// for Speaker Verification Using Context-Aware Masking", 2023): a head of two-dimensional convolutions over frequency and time,
// three blocks of densely connected layers over time, each with a mask from its surroundings, and the mean and deviation of
// what comes out.
const (
	headChannels  = 32  // of the head's convolutions
	headBins      = 10  // of frequency that the head leaves
	trunkChannels = 128 // into the first block, and inside of each layer
	growth        = 32  // channels that a layer adds
	maskChannels  = 64
	embeddingSize = 192
	// segment in frames of the trunk is what a mask sees beside the whole: 2 s, for the trunk has half the frames.
	segment = 100
	// normEpsilon is what PyTorch adds to a variance.
	normEpsilon = 1e-5
)

// blocks of the trunk.
var blocks = []struct {
	layers   int
	dilation int64
}{{12, 1}, {24, 2}, {16, 2}}

// Embedder returns CAM++ as an ONNX model: input "features" float32 [N, T, Bands], output "embedding" float32 [N, 192]. saved is
// what PyTorch has saved; what is read of it must be 32-bit floats. N and T are free, but below 3 frames there is no deviation,
// and 0 stands for it.
//
// From 30 frames on the values are PyTorch's to 1e-5. A normalisation that follows a convolution is folded into it, and a mask is
// computed once for a segment, not for each frame of it. The trunk's convolutions have a height of 1: ONNX Runtime keeps to its
// blocked layout, which takes 5 to 10% less time on an EPYC 7003, for two dimensions only.
func Embedder(saved []byte) ([]byte, error) {
	file, err := openCheckpoint(bytes.NewReader(saved), int64(len(saved)))
	if err != nil {
		return nil, fmt.Errorf("read the weights of CAM++: %w", err)
	}
	n := &network{file: file}
	x, channels := n.head("features"), trunkChannels
	n.frames(x)
	for i, b := range blocks {
		for l := range b.layers {
			y := n.layer(x, fmt.Sprintf("xvector.block%d.tdnnd%d.", i+1, l+1), channels, b.dilation)
			x = n.node("Concat", []string{x, y}, integer("axis", 1))
			channels += growth
		}
		transit := fmt.Sprintf("xvector.transit%d.", i+1)
		c := convolution{shape: []int{channels / 2, channels, 1}}
		if i == len(blocks)-1 {
			c.norm = "xvector.out_nonlinear.batchnorm"
		}
		x = n.conv(n.normalised(x, transit+"nonlinear.batchnorm", channels), transit+"linear", c)
		channels /= 2
	}
	n.pool(n.relu(x), channels)
	if n.err != nil {
		return nil, fmt.Errorf("read the weights of CAM++: %w", n.err)
	}
	return n.model("campplus",
		port{"features", []string{"N", "T", fmt.Sprint(Bands)}}, port{"embedding", []string{"N", fmt.Sprint(embeddingSize)}}), nil
}

// network is a graph whose weights come from a file. After its first error it adds no weights.
type network struct {
	graph
	file *checkpoint
	err  error
	// spread is a matrix [segments, frames] that has a 1 where a frame of the trunk is in a segment; degrees is the root of one
	// less than the number of frames, but 1 at least.
	spread, degrees string
}

// convolution is what a convolution has beside the name of its weights.
type convolution struct {
	shape   []int    // of the weights in the file: to, from, and the kernel over frequency and time, or over time
	kernel  [2]int64 // over frequency and time; zeros are ones
	stride  [2]int64 // the same
	pad     [2]int64
	stretch int64  // dilation over time; 0 is 1
	norm    string // of the normalisation that follows, empty for none
	plain   bool   // that normalisation has no scale and shift of its own
	bias    bool   // the file has one
}

// head takes the features to [N, trunkChannels, 1, frames], where frames are half as many.
func (n *network) head(features string) string {
	square := convolution{shape: []int{headChannels, headChannels, 3, 3}, kernel: [2]int64{3, 3}, pad: [2]int64{1, 1}}
	conv := func(x, name, norm string, stride int64) string {
		c := square
		c.norm, c.stride = norm, [2]int64{stride, 1}
		return n.conv(x, name, c)
	}
	x := n.node("Transpose", []string{features}, integers("perm", 0, 2, 1))
	x = n.node("Unsqueeze", []string{x, n.numbers(1)})
	first := square
	first.shape, first.norm = []int{headChannels, 1, 3, 3}, "head.bn1"
	x = n.relu(n.conv(x, "head.conv1", first))
	for _, layer := range []string{"head.layer1.", "head.layer2."} {
		short := n.conv(x, layer+"0.shortcut.0", convolution{
			shape: []int{headChannels, headChannels, 1, 1}, stride: [2]int64{2, 1}, norm: layer + "0.shortcut.1"})
		for i, stride := range []int64{2, 1} {
			name := fmt.Sprintf("%s%d.", layer, i)
			y := n.relu(conv(x, name+"conv1", name+"bn1", stride))
			y = conv(y, name+"conv2", name+"bn2", 1)
			x = n.relu(n.node("Add", []string{y, short}))
			short = x
		}
	}
	x = n.relu(conv(x, "head.conv2", "head.bn2", 2))
	// In the file this one is over time alone, with the frequencies as channels: the same sums.
	return n.relu(n.conv(x, "xvector.tdnn.linear", convolution{
		shape: []int{trunkChannels, headChannels * headBins, 5}, kernel: [2]int64{headBins, 5}, stride: [2]int64{1, 2},
		pad: [2]int64{0, 2}, norm: "xvector.tdnn.nonlinear.batchnorm"}))
}

// frames makes what depends on the number of frames alone.
func (n *network) frames(x string) {
	one, length := n.number(1), n.number(segment)
	count := n.node("Squeeze", []string{n.node("Shape", []string{x}, integer("start", 3))})
	last := n.node("Sub", []string{count, one})
	at := n.node("Div", []string{n.node("Range", []string{n.number(0), count, one}), length})
	segments := n.node("Add", []string{n.node("Div", []string{last, length}), one})
	n.spread = n.node("OneHot", []string{at, segments, n.decimals(0, 1)}, integer("axis", 0))
	n.degrees = n.node("Sqrt", []string{n.node("Cast", []string{n.node("Max", []string{last, one})}, integer("to", elementFloat))})
}

// layer computes the channels that a layer of the trunk adds to x.
func (n *network) layer(x, name string, channels int, dilation int64) string {
	x = n.normalised(x, name+"nonlinear1.batchnorm", channels)
	x = n.relu(n.conv(x, name+"linear1", convolution{
		shape: []int{trunkChannels, channels, 1}, norm: name + "nonlinear2.batchnorm"}))
	y := n.conv(x, name+"cam_layer.linear_local", convolution{
		shape: []int{growth, trunkChannels, 3}, kernel: [2]int64{1, 3}, pad: [2]int64{0, dilation}, stretch: dilation})
	// The last window is cut short by the end, and the mean over what it has.
	local := n.node("AveragePool", []string{x},
		integers("kernel_shape", 1, segment), integers("strides", 1, segment), integer("ceil_mode", 1))
	mask := n.node("Add", []string{n.node("GlobalAveragePool", []string{x}), local})
	mask = n.relu(n.conv(mask, name+"cam_layer.linear1", convolution{shape: []int{maskChannels, trunkChannels, 1}, bias: true}))
	mask = n.conv(mask, name+"cam_layer.linear2", convolution{shape: []int{growth, maskChannels, 1}, bias: true})
	mask = n.node("MatMul", []string{n.node("Sigmoid", []string{mask}), n.spread})
	return n.node("Mul", []string{y, mask})
}

// pool makes the embedding of the mean and the unbiased deviation over time.
func (n *network) pool(x string, channels int) {
	axis, keep := integers("axes", 3), integer("keepdims", 1)
	mean := n.node("ReduceMean", []string{x}, axis, keep)
	length := n.node("ReduceL2", []string{n.node("Sub", []string{x, mean})}, axis, keep)
	deviation := n.node("Div", []string{length, n.degrees})
	x = n.node("Concat", []string{mean, deviation}, integer("axis", 1))
	// No rectifier follows this one: half of each vector would be lost.
	x = n.conv(x, "xvector.dense.linear", convolution{
		shape: []int{embeddingSize, 2 * channels, 1}, norm: "xvector.dense.nonlinear.batchnorm", plain: true})
	n.nodeTo("embedding", "Flatten", []string{x})
}

func (n *network) relu(x string) string { return n.node("Relu", []string{x}) }

// conv adds a convolution, with the normalisation that follows it.
func (n *network) conv(x, name string, c convolution) string {
	channels := c.shape[0]
	w, bias := n.load(name+".weight", c.shape...), make([]float32, channels)
	if c.bias {
		bias = n.load(name+".bias", channels)
	}
	var follows norm
	if c.norm != "" {
		follows = n.norm(c.norm, channels, c.plain)
	}
	if n.err != nil {
		return ""
	}
	if c.norm != "" {
		follows.fold(w, bias)
	}
	height, width := max(1, c.kernel[0]), max(1, c.kernel[1])
	area := int(height * width)
	inputs := []string{x, n.tensor(w, channels, len(w)/channels/area, int(height), int(width))}
	if c.bias || c.norm != "" {
		inputs = append(inputs, n.tensor(bias, channels))
	}
	return n.node("Conv", inputs, integers("kernel_shape", height, width),
		integers("strides", max(1, c.stride[0]), max(1, c.stride[1])),
		integers("pads", c.pad[0], c.pad[1], c.pad[0], c.pad[1]), integers("dilations", 1, max(1, c.stretch)))
}

// normalised adds a normalisation that no convolution comes before, and its rectifier.
func (n *network) normalised(x, name string, channels int) string {
	v := n.norm(name, channels, false)
	if n.err != nil {
		return ""
	}
	inputs := []string{x}
	for _, w := range [][]float32{v.scale, v.shift, v.mean, v.variance} {
		inputs = append(inputs, n.tensor(w, channels))
	}
	return n.relu(n.node("BatchNormalization", inputs, float("epsilon", normEpsilon)))
}

// norm is a batch normalisation: (x-mean)/sqrt(variance+normEpsilon)*scale + shift for each channel.
type norm struct{ mean, variance, scale, shift []float32 }

// norm reads one. A plain one has neither scale nor shift.
func (n *network) norm(name string, channels int, plain bool) norm {
	v := norm{mean: n.load(name+".running_mean", channels), variance: n.load(name+".running_var", channels)}
	if plain {
		v.scale, v.shift = slices.Repeat([]float32{1}, channels), make([]float32, channels)
	} else {
		v.scale, v.shift = n.load(name+".weight", channels), n.load(name+".bias", channels)
	}
	for _, x := range v.variance {
		if !(x >= 0) && n.err == nil {
			n.err = fmt.Errorf("%s has a variance of %g", name, x)
		}
	}
	return v
}

// fold changes the weights and the bias of a convolution to what gives the normalised values.
func (v norm) fold(w, bias []float32) {
	row := len(w) / len(bias)
	for i := range bias {
		scale := float64(v.scale[i]) / math.Sqrt(float64(v.variance[i])+normEpsilon)
		bias[i] = float32((float64(bias[i])-float64(v.mean[i]))*scale + float64(v.shift[i]))
		for j := range row {
			w[i*row+j] = float32(float64(w[i*row+j]) * scale)
		}
	}
}

// load reads weights of the file.
func (n *network) load(name string, dims ...int) []float32 {
	if n.err != nil {
		return nil
	}
	var x []float32
	x, n.err = n.file.floats(name, dims...)
	return x
}
