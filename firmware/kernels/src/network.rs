//! A network ready to run, and the memory that one run at a time needs.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::ThreadPool;

use crate::buffer::Buffer;
use crate::builder::{Made, Op, Picture};
use crate::conv::{Conv, Kind, Places};
use crate::isa::Kernels;
use crate::plan::{Plan, Slot, Step};
use crate::simple;

/// Largest activation in 8 bits.
const ACTIVATION_MAX: f32 = 255.0;

/// A network: steps and packed weights. Shared by all who run it.
pub struct Network {
    kernels: &'static Kernels,
    made: Vec<Made>,
    convs: Vec<Conv>,
    steps: Vec<Step>,
    slots: Vec<Slot>,
    output: usize,
    outputs: usize,
}

/// Buffers of one network. A run allocates nothing else, but for the first on a larger pool, which brings each thread its
/// scratch, and for what rayon's own queue of jobs takes. A clone has buffers of its own.
#[derive(Debug)]
pub struct Workspace {
    buffers: Vec<Buffer>,
    /// The largest value in each buffer, as bits of an f32.
    largest: Vec<AtomicU32>,
    /// One for each thread that has ever taken part.
    scratch: Vec<Buffer>,
    output: Vec<f32>,
}

/// A step as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The graph's name of a convolution, else what the step does.
    pub name: String,
    /// How it computes.
    pub kind: &'static str,
    /// Height, width and channels of what it makes.
    pub output: [usize; 3],
    /// Multiplications (each with its addition) of one picture, as they are done: Winograd's products, not what the window's
    /// definition counts, and not its transforms. 0 where they do not count.
    pub macs: usize,
}

impl Network {
    pub(crate) fn new(kernels: &'static Kernels, made: Vec<Made>, convs: Vec<Conv>, plan: Plan) -> Self {
        let outputs = plan.slots[plan.output].stride;
        Self { kernels, made, convs, steps: plan.steps, slots: plan.slots, output: plan.output, outputs }
    }

    /// The processor family whose kernels run it.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Bytes of weights, as they are kept.
    pub fn weight_bytes(&self) -> usize {
        self.convs.iter().map(Conv::bytes).sum()
    }

    /// Every step in its order.
    pub fn layers(&self) -> Vec<Layer> {
        self.steps.iter().map(|step| self.layer(step)).collect()
    }

    fn layer(&self, step: &Step) -> Layer {
        let simple = |kind: &'static str, to: usize| {
            let slot = &self.slots[to];
            Layer { name: kind.to_string(), kind, output: [slot.height, slot.width, slot.stride], macs: 0 }
        };
        match *step {
            Step::Load { to } => simple("load", to),
            Step::Quantise { to, .. } => simple("quantise", to),
            Step::Conv { conv, .. } => {
                let conv = &self.convs[conv];
                let kind = match conv.kind {
                    Kind::Float => "conv f32",
                    Kind::Narrow => "conv f32, 8-bit weights",
                    Kind::Integer => "conv int8",
                    Kind::Winograd => "conv f32, Winograd",
                };
                let Picture { channels, height, width } = conv.output;
                Layer { name: conv.name.clone(), kind, output: [height, width, channels], macs: conv.macs() }
            }
            Step::MaxPool { to, .. } => simple("max pool", to),
            Step::Relu { to, .. } => simple("relu", to),
            Step::Add { to, .. } => simple("add", to),
            Step::Sum { to, .. } => simple("sum", to),
            Step::Dense { to, .. } => simple("dense", to),
        }
    }

    /// Buffers to run it in.
    pub fn workspace(&self) -> Workspace {
        let buffer = |slot: &Slot| match slot.bytes {
            true => Buffer::filled(slot.values(), self.kernels.zero),
            false => Buffer::floats(slot.values()),
        };
        Workspace {
            buffers: self.slots.iter().map(buffer).collect(),
            largest: self.slots.iter().map(|_| AtomicU32::new(0)).collect(),
            scratch: vec![Buffer::floats(self.scratch_floats())],
            output: vec![0.0; self.outputs],
        }
    }

    /// What one thread needs for the layer that needs most.
    fn scratch_floats(&self) -> usize {
        self.convs.iter().map(|conv| conv.scratch(self.kernels)).max().unwrap_or(0)
    }

    /// Runs it over `picture` (channel by channel) on the caller's thread, or on all of `pool`; `after` is called with each
    /// step's place in [`Network::layers`] once it is done.
    ///
    /// # Panics
    /// Where `picture` has another size than the input, or `workspace` is another network's and too small for this one.
    pub fn run<'a>(
        &self,
        workspace: &'a mut Workspace,
        picture: &[f32],
        pool: Option<&ThreadPool>,
        after: &mut (dyn FnMut(usize) + Send),
    ) -> &'a [f32] {
        let input = self.made[0].shape;
        assert_eq!(picture.len(), input.pixels() * input.channels, "a picture has one size");
        let fits = |(buffer, slot): (&Buffer, &Slot)| buffer.len() >= slot.values() * if slot.bytes { 1 } else { 4 };
        assert!(
            workspace.buffers.len() == self.slots.len()
                && workspace.buffers.iter().zip(&self.slots).all(fits)
                && workspace.scratch.iter().all(|scratch| scratch.len() >= self.scratch_floats() * 4),
            "a workspace belongs to its network"
        );
        match pool {
            Some(pool) => pool.install(|| self.run_steps(workspace, picture, pool.current_num_threads(), after)),
            None => self.run_steps(workspace, picture, 1, after),
        }
        workspace.output.copy_from_slice(&workspace.buffers[self.output].as_floats()[..self.outputs]);
        &workspace.output
    }

    fn run_steps(
        &self,
        workspace: &mut Workspace,
        picture: &[f32],
        threads: usize,
        after: &mut (dyn FnMut(usize) + Send),
    ) {
        if workspace.scratch.len() < threads {
            workspace.scratch.resize_with(threads, || Buffer::floats(self.scratch_floats()));
        }
        for (place, step) in self.steps.iter().enumerate() {
            self.run_step(workspace, picture, threads, step);
            after(place);
        }
    }

    fn run_step(&self, workspace: &mut Workspace, picture: &[f32], threads: usize, step: &Step) {
        let slots = &self.slots;
        let largest =
            |workspace: &Workspace, slot: usize| f32::from_bits(workspace.largest[slot].load(Ordering::Relaxed));
        match *step {
            Step::Load { to } => {
                simple::load(picture, self.made[0].shape, (workspace.buffers[to].as_floats_mut(), &slots[to]));
            }
            Step::Quantise { from, to } => {
                let most = largest(workspace, from);
                // Of next to nothing there is none, and processors disagree about infinity.
                let inverse = Some(ACTIVATION_MAX / most).filter(|inverse| inverse.is_finite()).unwrap_or(0.0);
                self.quantise(workspace, from, to, inverse);
            }
            Step::Conv { conv, from, residual, to, relu, activations_of } => {
                let integer = self.convs[conv].kind == Kind::Integer;
                let factor = if integer { largest(workspace, activations_of) / ACTIVATION_MAX } else { 1.0 };
                let Workspace { buffers, largest, scratch, .. } = workspace;
                largest[to].store(0, Ordering::Relaxed);
                let output = buffers[to].pointer_mut().cast();
                let places = Places {
                    input: (buffers[from].pointer(), &slots[from]),
                    residual: residual.map(|slot| (buffers[slot].pointer().cast(), &slots[slot])),
                    output: (output, &slots[to]),
                    factor,
                    relu,
                    largest: &largest[to],
                };
                self.convs[conv].run(self.kernels, &places, &mut scratch[..threads]);
            }
            Step::MaxPool { window, from, to } => {
                self.one(workspace, from, to, |input, output| simple::max_pool(&window, input, output));
            }
            Step::Relu { from, to } => self.one(workspace, from, to, simple::relu),
            Step::Add { a, b, to, relu } => {
                let output = std::mem::take(&mut workspace.buffers[to]);
                self.put(workspace, to, output, |buffers, output| {
                    let input = |slot: usize| (buffers[slot].as_floats(), &slots[slot]);
                    simple::add(input(a), input(b), output, relu)
                });
            }
            Step::Sum { from, to } => self.one(workspace, from, to, |input, (output, slot)| {
                simple::sum(input, &mut output[..slot.stride]);
                0.0
            }),
            Step::Dense { made, from, to } => {
                let Op::Dense { weights, bias, .. } = &self.made[made].op else { return };
                self.one(workspace, from, to, |(input, source), (output, _)| {
                    simple::dense(weights, bias, &input[..source.stride], output);
                    0.0
                });
            }
        }
    }

    /// A step from one buffer to another.
    fn one(
        &self,
        workspace: &mut Workspace,
        from: usize,
        to: usize,
        run: impl FnOnce((&[f32], &Slot), (&mut [f32], &Slot)) -> f32,
    ) {
        let output = std::mem::take(&mut workspace.buffers[to]);
        self.put(workspace, to, output, |buffers, output| run((buffers[from].as_floats(), &self.slots[from]), output));
    }

    /// Runs with the output taken out of the list, so that inputs can be borrowed, and puts it back.
    fn put(
        &self,
        workspace: &mut Workspace,
        to: usize,
        mut output: Buffer,
        run: impl FnOnce(&[Buffer], (&mut [f32], &Slot)) -> f32,
    ) {
        let largest = run(&workspace.buffers, (output.as_floats_mut(), &self.slots[to]));
        workspace.buffers[to] = output;
        workspace.largest[to].store(largest.to_bits(), Ordering::Relaxed);
    }

    #[allow(unsafe_code)]
    fn quantise(&self, workspace: &mut Workspace, from: usize, to: usize, inverse: f32) {
        let (source, target) = (&self.slots[from], &self.slots[to]);
        let mut output = std::mem::take(&mut workspace.buffers[to]);
        let input = workspace.buffers[from].as_floats();
        let count = source.width * source.stride;
        for y in 0..source.height {
            let from = &input[source.at(y, 0)..][..count];
            let to = &mut output.as_bytes_mut()[target.at(y, 0)..][..count];
            // SAFETY: both slices hold `count` values, a multiple of 16 (`Conv::new` asks that of the stride of an integer
            // layer's input); `kernels` is one that `available` gave for this processor.
            unsafe { (self.kernels.quantise)(from.as_ptr(), count, inverse, to.as_mut_ptr()) };
        }
        workspace.buffers[to] = output;
    }
}

impl Clone for Workspace {
    fn clone(&self) -> Self {
        Self {
            buffers: self.buffers.clone(),
            largest: self.largest.iter().map(|most| AtomicU32::new(most.load(Ordering::Relaxed))).collect(),
            scratch: self.scratch.clone(),
            output: self.output.clone(),
        }
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("kernels", &self.kernels.name()).field("steps", &self.steps).finish()
    }
}
