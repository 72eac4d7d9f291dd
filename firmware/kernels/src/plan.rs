//! From operations to steps: what is fused, in which order, and which buffer each step reads and writes.
//!
//! A convolution takes the sum and the ReLU behind it along, where nobody else wants what lies between. Buffers of one
//! geometry are used again once their last reader has run; their borders of zeros are never written, so stay zeros.

use crate::builder::{Made, Op, Picture, Value, Window};
use crate::conv::{Conv, Kind};

/// A buffer: a picture as height x width x channel with a border of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Values of one pixel.
    pub(crate) stride: usize,
    pub(crate) border: usize,
    /// 8-bit activations instead of f32.
    pub(crate) bytes: bool,
}

impl Slot {
    /// Values from one row to the next.
    pub(crate) fn row(&self) -> usize {
        (self.width + 2 * self.border) * self.stride
    }

    pub(crate) fn values(&self) -> usize {
        self.row() * (self.height + 2 * self.border)
    }

    /// Place of a pixel's first channel.
    pub(crate) fn at(&self, y: usize, x: usize) -> usize {
        (y + self.border) * self.row() + (x + self.border) * self.stride
    }

    /// Place of the first value of the window that makes output pixel `y`, `x`. The border is at least what the window asks
    /// for (`plan`), so that neither this nor the window's end leaves the buffer.
    pub(crate) fn window_start(&self, y: usize, x: usize, window: &Window) -> usize {
        let row = y * window.stride[0] + self.border - window.before[0];
        let column = x * window.stride[1] + self.border - window.before[1];
        row * self.row() + column * self.stride
    }
}

/// A step; numbers are slots, but `conv` and `made`, which count convolutions and operations.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Load { to: usize },
    Quantise { from: usize, to: usize },
    Conv { conv: usize, from: usize, residual: Option<usize>, to: usize, relu: bool, activations_of: usize },
    MaxPool { window: Window, from: usize, to: usize },
    Relu { from: usize, to: usize },
    Add { a: usize, b: usize, to: usize, relu: bool },
    Sum { from: usize, to: usize },
    Dense { made: usize, from: usize, to: usize },
}

/// All of it.
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) output: usize,
}

/// What a value's readers want of it.
#[derive(Debug, Clone, Default)]
struct Wanted {
    readers: usize,
    /// Border of the f32 buffer, and of the 8-bit one where an integer layer reads it.
    border: usize,
    bytes_border: Option<usize>,
}

pub(crate) fn plan(made: &[Made], convs: &[Conv], output: Value) -> Plan {
    let wanted = wanted(made, convs, output);
    let fused = fused(made, &wanted);
    let mut planner = Planner {
        made,
        last: last_use(made, &fused, output),
        wanted,
        floats: vec![None; made.len()],
        bytes: vec![None; made.len()],
        slots: Vec::new(),
        free: Vec::new(),
        steps: Vec::new(),
    };
    for (index, head) in fused.iter().enumerate() {
        if head.is_none() {
            planner.emit(index, convs);
        }
    }
    let output = planner.floats[output.index()].unwrap_or(0);
    Plan { steps: planner.steps, slots: planner.slots, output }
}

fn inputs(op: &Op) -> [Option<Value>; 2] {
    match *op {
        Op::Input => [None, None],
        Op::Add { a, b } => [Some(a), Some(b)],
        Op::Conv { x, .. } | Op::MaxPool { x, .. } | Op::Relu { x } | Op::Sum { x } | Op::Dense { x, .. } => {
            [Some(x), None]
        }
    }
}

fn wanted(made: &[Made], convs: &[Conv], output: Value) -> Vec<Wanted> {
    let mut wanted = vec![Wanted::default(); made.len()];
    wanted[output.index()].readers += 1;
    for entry in made {
        for input in inputs(&entry.op).into_iter().flatten() {
            wanted[input.index()].readers += 1;
        }
        if let Op::Conv { x, conv } = entry.op {
            let (conv, of) = (&convs[conv], &mut wanted[x.index()]);
            let border = conv.window.border();
            if conv.kind == Kind::Integer {
                of.bytes_border = Some(of.bytes_border.unwrap_or(0).max(border));
            } else {
                of.border = of.border.max(border);
            }
        }
    }
    wanted
}

/// For each operation the one that takes it along: a ReLU its sum or convolution, a sum one convolution.
fn fused(made: &[Made], wanted: &[Wanted]) -> Vec<Option<usize>> {
    let mut fused = vec![None; made.len()];
    for (index, entry) in made.iter().enumerate() {
        let alone = |value: Value| wanted[value.index()].readers == 1;
        let conv = |value: Value| matches!(made[value.index()].op, Op::Conv { .. });
        match entry.op {
            Op::Relu { x } if alone(x) && (conv(x) || matches!(made[x.index()].op, Op::Add { .. })) => {
                fused[x.index()] = Some(index);
            }
            Op::Add { a, b } => {
                if let Some(value) = [a, b].into_iter().find(|value| alone(*value) && conv(*value)) {
                    fused[value.index()] = Some(index);
                }
            }
            _ => {}
        }
    }
    fused
}

/// The place in the order of operations after which nobody reads a value.
fn last_use(made: &[Made], fused: &[Option<usize>], output: Value) -> Vec<usize> {
    let mut last = vec![0; made.len()];
    for (index, entry) in made.iter().enumerate() {
        let mut at = index;
        while let Some(head) = fused[at] {
            at = head;
        }
        for input in inputs(&entry.op).into_iter().flatten() {
            last[input.index()] = last[input.index()].max(at);
        }
    }
    last[output.index()] = usize::MAX;
    last
}

struct Planner<'a> {
    made: &'a [Made],
    wanted: Vec<Wanted>,
    last: Vec<usize>,
    /// The slots that hold each value now.
    floats: Vec<Option<usize>>,
    bytes: Vec<Option<usize>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    steps: Vec<Step>,
}

impl Planner<'_> {
    /// The steps of operation `index` and of what it takes along.
    fn emit(&mut self, index: usize, convs: &[Conv]) {
        let made = self.made;
        let (relu, head) = match made[index].op {
            Op::Relu { x } if self.floats[x.index()].is_none() => (true, x.index()),
            _ => (false, index),
        };
        let to = self.slot_for(index);
        match &made[head].op {
            Op::Input => self.steps.push(Step::Load { to }),
            Op::Conv { x, conv } => self.conv((*x, *conv, convs), None, to, relu),
            Op::Add { a, b } => {
                let late = [(*a, *b), (*b, *a)].into_iter().find(|(value, _)| self.floats[value.index()].is_none());
                match late.map(|(value, other)| (&made[value.index()].op, other)) {
                    Some((Op::Conv { x, conv }, other)) => {
                        let residual = self.floats[other.index()];
                        self.conv((*x, *conv, convs), residual, to, relu);
                    }
                    _ => self.steps.push(Step::Add { a: self.held(*a), b: self.held(*b), to, relu }),
                }
            }
            Op::Relu { x } => self.steps.push(Step::Relu { from: self.held(*x), to }),
            Op::MaxPool { x, window } => {
                self.steps.push(Step::MaxPool { window: *window, from: self.held(*x), to });
            }
            Op::Sum { x } => self.steps.push(Step::Sum { from: self.held(*x), to }),
            Op::Dense { x, .. } => self.steps.push(Step::Dense { made: head, from: self.held(*x), to }),
        }
        self.floats[index] = Some(to);
        self.release(index);
    }

    fn conv(&mut self, (x, conv, convs): (Value, usize, &[Conv]), residual: Option<usize>, to: usize, relu: bool) {
        let floats = self.held(x);
        let from = if convs[conv].kind == Kind::Integer { self.quantised(x) } else { floats };
        self.steps.push(Step::Conv { conv, from, residual, to, relu, activations_of: floats });
    }

    /// The 8-bit form of a value, made at its first reader.
    fn quantised(&mut self, value: Value) -> usize {
        if let Some(slot) = self.bytes[value.index()] {
            return slot;
        }
        let entry = &self.made[value.index()];
        let border = self.wanted[value.index()].bytes_border.unwrap_or(0);
        let to = self.take(geometry(entry.shape, entry.stride, border, true));
        self.steps.push(Step::Quantise { from: self.held(value), to });
        self.bytes[value.index()] = Some(to);
        to
    }

    /// The slot of a value that has been made: operations come in order, so it has.
    fn held(&self, value: Value) -> usize {
        self.floats[value.index()].unwrap_or_default()
    }

    fn slot_for(&mut self, index: usize) -> usize {
        let entry = &self.made[index];
        self.take(geometry(entry.shape, entry.stride, self.wanted[index].border, false))
    }

    fn take(&mut self, wanted: Slot) -> usize {
        if let Some(place) = self.free.iter().position(|slot| self.slots[*slot] == wanted) {
            return self.free.swap_remove(place);
        }
        self.slots.push(wanted);
        self.slots.len() - 1
    }

    /// Frees what nobody reads after operation `index`.
    fn release(&mut self, index: usize) {
        for value in 0..self.made.len() {
            if self.last[value] <= index && value != index {
                self.free.extend(self.floats[value].take());
                self.free.extend(self.bytes[value].take());
            }
        }
    }
}

fn geometry(shape: Picture, stride: usize, border: usize, bytes: bool) -> Slot {
    Slot { height: shape.height, width: shape.width, stride, border, bytes }
}
