//! From tract's graph to our own kernels, where every operation is one that they know; every other graph stays with tract.
//!
//! What is known is a residual network over one picture: convolutions, max pools, ReLUs, sums of two pictures, then the mean
//! (or sum) of each channel, dense layers, softmax. Anything else, a group, a dilation, an axis out of place, is refused here
//! and runs in tract as before; nothing is guessed.

use std::sync::Arc;

use kernels::{Arithmetic, Builder, Kernels, Network, Refused, Value, Window};
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PoolSpec};
use tract_core::ops::downsample::Downsample;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::konst::Const;
use tract_core::ops::math::{Add, Max, Mul};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, Softmax, SoftmaxKind};
use tract_core::ops::source::TypedSource;

/// What an operation of the graph made.
#[derive(Clone)]
enum Held {
    Constant(Arc<Tensor>),
    Picture(Picture),
    /// `factor` times a vector: the mean of a channel is its sum times a constant.
    Vector {
        value: Value,
        factor: f32,
        length: usize,
    },
    /// A dense layer to which a bias may still be added; nothing follows its softmax.
    Dense {
        from: Value,
        layer: Product,
        softmax: bool,
    },
}

/// A picture, with what tract makes of a convolution of one pixel: every so many rows and columns are taken, rows and
/// columns become one axis, and the channels are multiplied by a matrix. Together they are that convolution again.
#[derive(Clone)]
struct Picture {
    value: Value,
    stride: [usize; 2],
    /// Rows and columns are one axis.
    flat: bool,
    product: Option<Product>,
}

/// Weights (output, input) and bias.
#[derive(Clone)]
struct Product {
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Product {
    /// With a constant added that is one number, or one a channel.
    fn plus(mut self, constant: &[f32]) -> Result<Self, Refused> {
        self.fits(constant)?;
        self.bias.iter_mut().zip(constant.iter().cycle()).for_each(|(bias, more)| *bias += more);
        Ok(self)
    }

    /// Multiplied by such a constant.
    fn times(mut self, constant: &[f32]) -> Result<Self, Refused> {
        self.fits(constant)?;
        let row = self.weights.len() / self.bias.len();
        let rows = self.weights.chunks_exact_mut(row);
        for ((row, bias), factor) in rows.zip(&mut self.bias).zip(constant.iter().cycle()) {
            row.iter_mut().for_each(|weight| *weight *= factor);
            *bias *= factor;
        }
        Ok(self)
    }

    fn fits(&self, constant: &[f32]) -> Result<(), Refused> {
        let fits = constant.len() == 1 || constant.len() == self.bias.len();
        fits.then_some(()).ok_or(Refused("a constant of another length"))
    }
}

impl From<Value> for Held {
    fn from(value: Value) -> Self {
        Self::Picture(Picture { value, stride: [1, 1], flat: false, product: None })
    }
}

/// A network, and whether softmax follows it.
pub(crate) struct Native {
    pub(crate) network: Network,
    pub(crate) softmax: bool,
}

/// Whether the decluttered `model` is one for the kernels, or what stands in the way.
pub(crate) fn fits(model: &TypedModel, kernels: &'static Kernels) -> Result<(), String> {
    let constants = model.nodes.iter().map(|node| node.op_as::<Const>().map(|op| op.val().clone())).collect();
    let dry = |shape| Builder::new(kernels, Arithmetic::Float, shape).map(|(builder, value)| (builder.dry(), value));
    let (mut builder, from, layer, _) = read(model, constants, dry)?;
    builder.dense(from, layer.weights, layer.bias).map(|_| ()).map_err(|Refused(why)| why.to_string())
}

/// A `model` that [`fits`] for the kernels of this processor. Weights are given back one by one as they are packed: loading
/// needs little more than the larger of both forms.
pub(crate) fn network(
    mut model: TypedModel,
    kernels: &'static Kernels,
    arithmetic: Arithmetic,
) -> Result<Native, String> {
    let mut constants: Vec<Option<Arc<Tensor>>> = Vec::with_capacity(model.nodes.len());
    for node in &mut model.nodes {
        constants.push(node.op_as::<Const>().map(|op| op.val().clone()));
        if node.op_is::<Const>() {
            node.op = Box::new(TypedSource::new(f32::fact([0usize; 0])));
            node.outputs[0].fact.konst = None;
        }
    }
    let (mut builder, from, layer, softmax) =
        read(&model, constants, |shape| Builder::new(kernels, arithmetic, shape))?;
    let value = builder.dense(from, layer.weights, layer.bias);
    let network = value.and_then(|value| builder.finish(value)).map_err(|Refused(why)| why)?;
    Ok(Native { network, softmax })
}

/// Every operation in its order, up to the dense layer that ends the graph.
fn read(
    model: &TypedModel,
    constants: Vec<Option<Arc<Tensor>>>,
    begin: impl Fn([usize; 3]) -> Result<(Builder, Value), Refused>,
) -> Result<(Builder, Value, Product, bool), String> {
    let order = model.eval_order().map_err(|error| format!("{error:#}"))?;
    let [input] = model.inputs[..] else { return Err("a graph without one input".into()) };
    let source = &model.nodes[input.node];
    let named = |node: &TypedNode, Refused(why)| format!("{} `{}`: {why}", node.op.name(), node.name);
    let begun = shape(&source.outputs[0].fact).and_then(|shape| match shape[..] {
        [1, channels, height, width] => begin([channels, height, width]),
        _ => Err(Refused("no picture")),
    });
    let (builder, value) = begun.map_err(|why| named(source, why))?;
    let made = constants.iter().map(|constant| constant.is_some()).collect::<Vec<_>>();
    let mut held: Vec<Option<Held>> = constants.into_iter().map(|constant| constant.map(Held::Constant)).collect();
    held[input.node] = Some(value.into());
    let mut reader = Reader { model, builder, held };
    for id in order {
        if id != input.node && !made[id] {
            let node = &model.nodes[id];
            reader.held[id] = Some(reader.read(node).map_err(|why| named(node, why))?);
        }
    }
    match model.outputs.first().and_then(|outlet| reader.held[outlet.node].take()) {
        Some(Held::Dense { from, layer, softmax }) => Ok((reader.builder, from, layer, softmax)),
        _ => Err("an output that is no dense layer".into()),
    }
}

struct Reader<'a> {
    model: &'a TypedModel,
    builder: Builder,
    held: Vec<Option<Held>>,
}

impl Reader<'_> {
    fn read(&mut self, node: &TypedNode) -> Result<Held, Refused> {
        if node.outputs.len() != 1 || node.inputs.iter().any(|input| input.slot != 0) {
            return Err(Refused("an operation with two outputs"));
        }
        let made = if let Some(op) = node.op_as::<Conv>() {
            self.conv(node, op)
        } else if let Some(op) = node.op_as::<MaxPool>() {
            self.max_pool(node, op)
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            self.binary(node, op)
        } else if let Some(op) = node.op_as::<Reduce>() {
            self.reduce(node, op)
        } else if let Some(op) = node.op_as::<EinSum>() {
            self.product(node, op)
        } else if let Some(op) = node.op_as::<Softmax>() {
            self.softmax(node, op)
        } else if let Some(op) = node.op_as::<Downsample>() {
            self.thinned(node, op)
        } else if let Some(op) = node.op_as::<AxisOp>() {
            self.axes(node, op)
        } else {
            Err(Refused("an operation that the kernels do not have"))
        }?;
        if let Held::Picture(picture) = &made
            && shape(&node.outputs[0].fact)? != self.shape(picture)
        {
            return Err(Refused("another shape than tract's"));
        }
        let length = match &made {
            Held::Vector { length, .. } => Some(*length),
            Held::Dense { layer, .. } => Some(layer.bias.len()),
            _ => None,
        };
        if let Some(length) = length
            && shape(&node.outputs[0].fact)?.iter().product::<usize>() != length
        {
            return Err(Refused("another length than tract's"));
        }
        Ok(made)
    }

    /// The shape of a picture in tract's words.
    fn shape(&self, picture: &Picture) -> Vec<usize> {
        let [mut channels, height, width] = self.builder.shape(picture.value);
        if let Some(product) = &picture.product {
            channels = product.bias.len();
        }
        let (height, width) = (height.div_ceil(picture.stride[0]), width.div_ceil(picture.stride[1]));
        if picture.flat { vec![1, channels, height * width] } else { vec![1, channels, height, width] }
    }

    fn input(&self, node: &TypedNode, place: usize) -> Result<&Held, Refused> {
        let outlet = node.inputs.get(place).ok_or(Refused("an input is missing"))?;
        self.held[outlet.node].as_ref().ok_or(Refused("an input that was not made"))
    }

    /// A whole picture: what was put off is made here.
    fn picture(&mut self, node: &TypedNode, place: usize) -> Result<Value, Refused> {
        let picture = match self.input(node, place)? {
            Held::Picture(picture) if !picture.flat => picture.clone(),
            _ => return Err(Refused("no picture where one is wanted")),
        };
        let value = match picture.product {
            None if picture.stride == [1, 1] => picture.value,
            None => return Err(Refused("a thinned picture")),
            Some(Product { weights, bias }) => {
                let window = Window { size: [1, 1], stride: picture.stride, before: [0, 0], after: [0, 0] };
                let name = &self.model.nodes[node.inputs[place].node].name;
                self.builder.conv(name, picture.value, window, &weights, &bias)?
            }
        };
        self.held[node.inputs[place].node] = Some(value.into());
        Ok(value)
    }

    fn constant(&self, node: &TypedNode, place: usize) -> Result<&Arc<Tensor>, Refused> {
        match self.input(node, place)? {
            Held::Constant(tensor) => Ok(tensor),
            _ => Err(Refused("weights that are not constant")),
        }
    }

    /// A constant, and away with it where nobody else reads it.
    fn take_constant(&mut self, node: &TypedNode, place: usize) -> Result<Arc<Tensor>, Refused> {
        let constant = self.constant(node, place)?.clone();
        let outlet = node.inputs[place];
        if self.model.nodes[outlet.node].outputs[0].successors.len() == 1 {
            self.held[outlet.node] = None;
        }
        Ok(constant)
    }

    fn conv(&mut self, node: &TypedNode, op: &Conv) -> Result<Held, Refused> {
        if op.group != 1 || op.q_params.is_some() || op.kernel_fmt != KernelFormat::OIHW {
            return Err(Refused("a convolution in groups, quantised, or in another order"));
        }
        let x = self.picture(node, 0)?;
        let window = window(&op.pool_spec, self.builder.shape(x))?;
        let weights = self.take_constant(node, 1)?;
        let [outputs, inputs, height, width] = weights.shape()[..] else {
            return Err(Refused("weights of another rank"));
        };
        if [height, width] != window.size || inputs != self.builder.shape(x)[0] {
            return Err(Refused("weights of another shape"));
        }
        let bias = self.constant(node, 2)?.clone();
        let bias = match floats(&bias)? {
            [one] => vec![*one; outputs],
            all => all.to_vec(),
        };
        Ok(self.builder.conv(&node.name, x, window, floats(&weights)?, &bias)?.into())
    }

    fn max_pool(&mut self, node: &TypedNode, op: &MaxPool) -> Result<Held, Refused> {
        let x = self.picture(node, 0)?;
        let window = window(&op.pool_spec, self.builder.shape(x))?;
        Ok(self.builder.max_pool(x, window)?.into())
    }

    fn thinned(&mut self, node: &TypedNode, op: &Downsample) -> Result<Held, Refused> {
        let by = usize::try_from(op.stride).map_err(|_| Refused("a picture taken backwards"))?;
        match self.input(node, 0)?.clone() {
            Held::Picture(mut picture) if !picture.flat && op.modulo == 0 && by > 0 && (2..4).contains(&op.axis) => {
                picture.stride[op.axis - 2] *= by;
                Ok(Held::Picture(picture))
            }
            _ => Err(Refused("a picture thinned in another way")),
        }
    }

    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> Result<Held, Refused> {
        if op.1.is_some_and(|dt| dt != f32::datum_type()) || node.inputs.len() != 2 {
            return Err(Refused("an operation that casts"));
        }
        let place = usize::from(matches!(self.input(node, 0)?, Held::Constant(_)));
        let Held::Constant(constant) = self.input(node, 1 - place)?.clone() else {
            if !op.0.is::<Add>() {
                return Err(Refused("another operation on two values"));
            }
            let (a, b) = (self.picture(node, 0)?, self.picture(node, 1)?);
            return Ok(self.builder.add(a, b)?.into());
        };
        if op.0.is::<Max>() {
            if uniform(&constant)? != 0.0 {
                return Err(Refused("a floor that is not 0"));
            }
            let x = self.picture(node, place)?;
            return Ok(self.builder.relu(x)?.into());
        }
        match self.input(node, place)?.clone() {
            Held::Picture(Picture { value, stride, flat, product: Some(product) })
                if op.0.is::<Add>() || op.0.is::<Mul>() =>
            {
                // One number a channel lies along axis 1 alone.
                let rank = if flat { 3 } else { 4 };
                let shape = constant.shape();
                if constant.len() != 1 && (shape.len() != rank || shape[1] != constant.len()) {
                    return Err(Refused("a constant along another axis"));
                }
                let values = floats(&constant)?;
                let product = if op.0.is::<Add>() { product.plus(values)? } else { product.times(values)? };
                let product = Some(product);
                Ok(Held::Picture(Picture { value, stride, flat, product }))
            }
            Held::Dense { from, layer, softmax: false } if op.0.is::<Add>() => {
                Ok(Held::Dense { from, layer: layer.plus(floats(&constant)?)?, softmax: false })
            }
            Held::Vector { value, factor, length } if op.0.is::<Mul>() => {
                Ok(Held::Vector { value, factor: factor * uniform(&constant)?, length })
            }
            _ => Err(Refused("another operation with a constant")),
        }
    }

    fn reduce(&mut self, node: &TypedNode, op: &Reduce) -> Result<Held, Refused> {
        let mut axes = op.axes.to_vec();
        axes.sort_unstable();
        if op.reducer != Reducer::Sum || axes != [2, 3] {
            return Err(Refused("another reduction"));
        }
        let x = self.picture(node, 0)?;
        let length = self.builder.shape(x)[0];
        let value = self.builder.sum(x)?;
        Ok(Held::Vector { value, factor: 1.0, length })
    }

    /// Axes of a vector may be moved, added and dropped while all but one have length 1: the order of its values stays. Rows
    /// and columns of a picture may become one axis, and two again.
    fn axes(&mut self, node: &TypedNode, op: &AxisOp) -> Result<Held, Refused> {
        let output = shape(&node.outputs[0].fact)?;
        let long = output.iter().filter(|extent| **extent != 1).count();
        match (self.input(node, 0)?.clone(), op) {
            (held @ (Held::Vector { .. } | Held::Dense { .. }), _) if long <= 1 => Ok(held),
            (Held::Picture(picture), AxisOp::Reshape(2, from, to)) if from.len() + to.len() == 3 => {
                Ok(Held::Picture(Picture { flat: !picture.flat, ..picture }))
            }
            _ => Err(Refused("axes that are moved")),
        }
    }

    /// A product with a constant matrix, however its axes lie.
    fn product(&mut self, node: &TypedNode, op: &EinSum) -> Result<Held, Refused> {
        if op.q_params.is_some() || op.operating_dt != f32::datum_type() || node.inputs.len() != 2 {
            return Err(Refused("a product in another type"));
        }
        let place = usize::from(matches!(self.input(node, 0)?, Held::Constant(_)));
        let matrix = self.constant(node, 1 - place)?.clone();
        let input = shape(self.model.outlet_fact(node.inputs[place]).map_err(|_| Refused("a fact is missing"))?)?;
        let output = shape(&node.outputs[0].fact)?;
        match self.input(node, place)?.clone() {
            Held::Vector { value, factor, length } => {
                let only = |shape: &[usize]| {
                    let mut long = (0..shape.len()).filter(|axis| shape[*axis] != 1);
                    long.next().filter(|_| long.next().is_none())
                };
                let (Some(summed), Some(kept)) = (only(&input), only(&output)) else {
                    return Err(Refused("a product whose axes cannot be told apart"));
                };
                let mut weights = rows(op, place, &matrix, (summed, length), (kept, output[kept]))?;
                weights.iter_mut().for_each(|weight| *weight *= factor);
                let layer = Product { weights, bias: vec![0.0; output[kept]] };
                Ok(Held::Dense { from: value, layer, softmax: false })
            }
            Held::Picture(picture) if picture.product.is_none() => {
                // All axes but the channels' stay where they are.
                let stays = |axis: usize| {
                    let mapped = op.axes.iter_all_axes().find(|mapped| mapped.inputs[place].contains(&axis));
                    mapped.is_some_and(|mapped| mapped.outputs[0].contains(&axis))
                };
                if input.len() != output.len() || !(0..input.len()).all(|axis| axis == 1 || stays(axis)) {
                    return Err(Refused("a product that moves rows or columns"));
                }
                let weights = rows(op, place, &matrix, (1, input[1]), (1, output[1]))?;
                let product = Some(Product { weights, bias: vec![0.0; output[1]] });
                Ok(Held::Picture(Picture { product, ..picture }))
            }
            _ => Err(Refused("a product of other things")),
        }
    }

    fn softmax(&mut self, node: &TypedNode, op: &Softmax) -> Result<Held, Refused> {
        let shape = shape(&node.outputs[0].fact)?;
        let over: usize = op.axes.iter().map(|axis| shape.get(*axis).copied().unwrap_or(0)).product();
        match (self.input(node, 0)?.clone(), &op.kind) {
            (Held::Dense { from, layer, softmax: false }, SoftmaxKind::Softmax)
                if op.quant_output_dt.is_none() && over == layer.bias.len() =>
            {
                Ok(Held::Dense { from, layer, softmax: true })
            }
            _ => Err(Refused("another softmax")),
        }
    }
}

/// The matrix of a product as (output, input): `summed` is the axis of input `place` that it sums over, `kept` the output's
/// axis that it makes, each with its length.
fn rows(
    op: &EinSum,
    place: usize,
    matrix: &Tensor,
    summed: (usize, usize),
    kept: (usize, usize),
) -> Result<Vec<f32>, Refused> {
    let (mut row, mut column) = (None, None);
    for axis in op.axes.iter_all_axes() {
        let in_matrix = axis.inputs[1 - place].first().copied();
        if axis.inputs[place].contains(&summed.0) && axis.outputs[0].is_empty() {
            column = in_matrix;
        }
        if axis.outputs[0].contains(&kept.0) && axis.inputs[place].is_empty() {
            row = in_matrix;
        }
    }
    let (Some(row), Some(column)) = (row, column) else { return Err(Refused("a product over other axes")) };
    let extents = matrix.shape();
    if matrix.len() != kept.1 * summed.1 || extents[row] != kept.1 || extents[column] != summed.1 || row == column {
        return Err(Refused("a matrix of another shape"));
    }
    let step = |axis: usize| extents[axis + 1..].iter().product::<usize>();
    let (down, along) = (step(row), step(column));
    let values = floats(matrix)?;
    Ok((0..kept.1).flat_map(|o| (0..summed.1).map(move |i| values[o * down + i * along])).collect())
}

fn shape(fact: &TypedFact) -> Result<Vec<usize>, Refused> {
    if fact.datum_type != f32::datum_type() {
        return Err(Refused("a value that is not f32"));
    }
    fact.shape.as_concrete().map(<[usize]>::to_vec).ok_or(Refused("a shape that is not fixed"))
}

fn floats(tensor: &Tensor) -> Result<&[f32], Refused> {
    tensor.try_as_plain_ram().and_then(|plain| plain.as_slice()).map_err(|_| Refused("a constant that is not f32"))
}

/// The one value of a constant.
fn uniform(tensor: &Tensor) -> Result<f32, Refused> {
    let values = floats(tensor)?;
    match values.first() {
        Some(first) if values.iter().all(|value| value == first) => Ok(*first),
        _ => Err(Refused("a constant of several values")),
    }
}

fn window(pool: &PoolSpec, shape: [usize; 3]) -> Result<Window, Refused> {
    let [rows, columns] = pool.kernel_shape[..] else {
        return Err(Refused("a window that is not of rows and columns"));
    };
    if pool.data_format != DataFormat::NCHW || pool.dilations().iter().any(|dilation| *dilation != 1) {
        return Err(Refused("a window in another layout, or dilated"));
    }
    let padding = pool.computed_padding(&shape[1..]);
    Ok(Window {
        size: [rows, columns],
        stride: [pool.stride(0), pool.stride(1)],
        before: [padding[0].pad_before, padding[1].pad_before],
        after: [padding[0].pad_after, padding[1].pad_after],
    })
}

#[cfg(test)]
mod tests;
