package voices

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A pickle is a program for a machine with a stack; Python's runs any function that it names. This one knows the few
// instructions of a state dict and two functions, makes nothing but the values below, and takes memory in proportion to the
// pickle. The package gopickle (v0.2.0) is not used for it: it takes as much memory as a length claims, knows more classes
// than its caller allows, and panics on an odd SETITEMS, an empty LONG1 and the instruction 0xff.

// The functions that a state dict calls.
const (
	rebuildTensor global = "torch._utils._rebuild_tensor_v2"
	orderedDict   global = "collections.OrderedDict"
)

// maxRank bounds the dimensions of a tensor: CAM++'s have four at most.
const maxRank = 8

type (
	global string         // a class or function by its name; it is never called
	tuple  []any          //
	dict   map[string]any // by reference, as in Python
)

// storage is a run of values that tensors share, kept in the record of that key.
type storage struct {
	class    global // torch.FloatStorage and the like
	key      string
	elements int
}

// stored is a tensor as the pickle describes it.
type stored struct {
	storage
	offset        int // elements from the storage's start
	dims, strides []int
}

// readPickle reads a pickled state dict: its tensors by their names.
func readPickle(in []byte) (map[string]stored, error) {
	u := &unpickler{in: in, memo: make(map[uint32]any)}
	for u.err == nil {
		at := len(in) - len(u.in)
		op := u.take(1)[0]
		if u.err == nil && op == '.' {
			return u.result()
		}
		if u.err == nil {
			u.step(op)
		}
		if u.err != nil {
			u.err = fmt.Errorf("at byte %d of the pickle: %w", at, u.err)
		}
	}
	return nil, u.err
}

// unpickler is that machine. Its first error stays, and its methods do nothing of use after it.
type unpickler struct {
	in    []byte // what is still to be read
	stack []any
	marks []int // heights of the stack
	memo  map[uint32]any
	err   error
}

// step runs an instruction. Values in errors are told by their type: they may hold themselves.
func (u *unpickler) step(op byte) {
	switch op {
	case 0x80: // PROTO
		u.take(1)
	case '}': // EMPTY_DICT
		u.push(dict{})
	case ')': // EMPTY_TUPLE
		u.push(tuple{})
	case '(': // MARK
		u.marks = append(u.marks, len(u.stack))
	case 'q': // BINPUT
		u.put(uint32(u.take(1)[0]))
	case 'r': // LONG_BINPUT
		u.put(u.u32())
	case 'h': // BINGET
		u.get(uint32(u.take(1)[0]))
	case 'j': // LONG_BINGET
		u.get(u.u32())
	case 'X': // BINUNICODE
		u.push(string(u.take(int(u.u32()))))
	case 'K': // BININT1
		u.push(int(u.take(1)[0]))
	case 'M': // BININT2
		u.push(int(binary.LittleEndian.Uint16(u.take(2))))
	case 'J': // BININT
		u.push(int(int32(u.u32())))
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		u.push(op == 0x88)
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		u.push(tuple(u.pop(int(op - 0x84))))
	case 't': // TUPLE
		u.push(tuple(u.popMark()))
	case 'c': // GLOBAL
		u.global()
	case 'Q': // BINPERSID
		u.storage(u.pop(1)[0])
	case 'R': // REDUCE
		v := u.pop(2)
		u.call(v[0], v[1])
	case 's': // SETITEM
		u.set(u.pop(2))
	case 'u': // SETITEMS
		u.set(u.popMark())
	default:
		u.fail("the instruction %#02x has no place in a state dict", op)
	}
}

func (u *unpickler) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf(format, args...)
	}
}

// take reads n bytes; where there are fewer it gives zeros, enough for a number.
func (u *unpickler) take(n int) []byte {
	if n < 0 || n > len(u.in) {
		u.fail("it ends early")
		return make([]byte, 4)
	}
	b := u.in[:n]
	u.in = u.in[n:]
	return b
}

func (u *unpickler) u32() uint32 { return binary.LittleEndian.Uint32(u.take(4)) }

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

// floor is how deep the stack may be emptied.
func (u *unpickler) floor() int {
	if len(u.marks) == 0 {
		return 0
	}
	return u.marks[len(u.marks)-1]
}

// pop takes the top n values; where there are fewer it gives nils.
func (u *unpickler) pop(n int) []any {
	if len(u.stack)-u.floor() < n {
		u.fail("its stack is empty")
		return make([]any, n)
	}
	v := slices.Clone(u.stack[len(u.stack)-n:])
	u.stack = u.stack[:len(u.stack)-n]
	return v
}

// popMark takes all values above the last mark, and the mark.
func (u *unpickler) popMark() []any {
	if len(u.marks) == 0 {
		u.fail("it has no mark")
		return nil
	}
	v := u.pop(len(u.stack) - u.floor())
	u.marks = u.marks[:len(u.marks)-1]
	return v
}

func (u *unpickler) put(at uint32) {
	if len(u.stack) <= u.floor() {
		u.fail("its stack is empty")
		return
	}
	u.memo[at] = u.stack[len(u.stack)-1]
}

func (u *unpickler) get(at uint32) {
	v, ok := u.memo[at]
	if !ok {
		u.fail("it has kept no value %d", at)
	}
	u.push(v)
}

// global reads the name of a class or function.
func (u *unpickler) global() {
	module := u.line()
	name := global(module + "." + u.line())
	isStorage := module == "torch" && strings.HasSuffix(string(name), "Storage")
	if name != rebuildTensor && name != orderedDict && !isStorage {
		u.fail("%.80q has no place in a state dict", name)
	}
	u.push(name)
}

func (u *unpickler) line() string {
	line, rest, ok := bytes.Cut(u.in, []byte("\n"))
	if !ok {
		u.fail("it ends early")
	}
	u.in = rest
	return string(line)
}

// storage makes one of ("storage", class, key, device, elements).
func (u *unpickler) storage(id any) {
	v, _ := id.(tuple)
	if len(v) != 5 || v[0] != "storage" {
		u.fail("%T of %d is not the name of a storage", id, len(v))
		return
	}
	class, isClass := v[1].(global)
	key, isKey := v[2].(string)
	n, isCount := v[4].(int)
	if !isClass || !isKey || !isCount {
		u.fail("a storage has %T, %T and %T for class, key and size", v[1], v[2], v[4])
	}
	u.push(storage{class: class, key: key, elements: n})
}

// call stands for the call of a function: of the two that are known.
func (u *unpickler) call(function, args any) {
	v, isTuple := args.(tuple)
	switch {
	case function == any(orderedDict) && isTuple && len(v) == 0:
		u.push(dict{})
	case function == any(rebuildTensor) && len(v) >= 4:
		s, isStorage := v[0].(storage)
		offset, isOffset := v[1].(int)
		dims, isDims := integersOf(v[2])
		strides, isStrides := integersOf(v[3])
		if !isStorage || !isOffset || !isDims || !isStrides {
			u.fail("a tensor is made of %T, %T, %T and %T", v[0], v[1], v[2], v[3])
		}
		u.push(stored{storage: s, offset: offset, dims: dims, strides: strides})
	default:
		u.fail("it calls %T with %d values", function, len(v))
	}
}

// integersOf gives the dimensions or strides of a tensor. A pickle can name one tuple many times, so a long one would take memory
// out of proportion.
func integersOf(v any) ([]int, bool) {
	t, ok := v.(tuple)
	if len(t) > maxRank {
		return nil, false
	}
	n := make([]int, len(t))
	for i := range t {
		x, isInt := t[i].(int)
		n[i], ok = x, ok && isInt
	}
	return n, ok
}

// set puts pairs of key and value into the dict on top of the stack.
func (u *unpickler) set(pairs []any) {
	top := u.pop(1)[0]
	d, isDict := top.(dict)
	if !isDict || len(pairs)%2 != 0 {
		u.fail("it puts %d keys and values into %T", len(pairs), top)
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		key, isText := pairs[i].(string)
		if !isText {
			u.fail("a key is %T", pairs[i])
			return
		}
		d[key] = pairs[i+1]
	}
	u.push(d)
}

// result is what the pickle has made, once it has stopped.
func (u *unpickler) result() (map[string]stored, error) {
	top := u.pop(1)[0]
	d, isDict := top.(dict)
	if !isDict {
		return nil, fmt.Errorf("it holds %T, not a state dict", top)
	}
	tensors := make(map[string]stored, len(d))
	for name, v := range d {
		t, isTensor := v.(stored)
		if !isTensor {
			return nil, fmt.Errorf("%.80q is %T, not a tensor", name, v)
		}
		tensors[name] = t
	}
	return tensors, nil
}
