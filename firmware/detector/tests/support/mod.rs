//! Small networks as weights files, built operation by operation.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::Write;

use detector::manifest::Manifest;
use detector::model::sha256_hex;
use tract_core::internal::*;
use tract_core::ops::array::MultiBroadcastTo;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, max, mul};
use tract_core::ops::nn::{DataFormat, Reduce, Reducer, Softmax, SoftmaxKind};

const CHANNELS: usize = 8;
/// The quietest picture is log2(1e-10) = -33: above 0 after this.
const LIFT: f32 = 34.0;

/// A way in which a network departs from a plain residual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twist {
    None,
    /// Softmax at the end.
    Softmax,
    /// Two groups of channels.
    Groups,
    /// Every second pixel of the window.
    Dilated,
    /// ReLU's floor is not 0.
    Floor,
    /// The largest instead of the mean of each channel.
    MaxOfChannel,
}

fn pool(kernel: usize, stride: usize, dilation: usize, inputs: usize) -> PoolSpec {
    let pad = dilation * (kernel / 2);
    PoolSpec::new(
        DataFormat::NCHW,
        tvec![kernel; 2],
        PaddingSpec::Explicit(tvec![pad; 2], tvec![pad; 2]),
        Some(tvec![dilation; 2]),
        Some(tvec![stride; 2]),
        inputs,
        CHANNELS,
    )
}

/// A residual network whose second label says whether the picture is loud. All its weights are positive and uneven.
pub fn network([_, channels, bands, frames]: [usize; 4], twist: Twist) -> TypedModel {
    let mut model = TypedModel::default();
    let mut seed = 1u32;
    let mut uneven = |shape: &[usize], sum: f32| {
        let count: usize = shape.iter().product();
        let each = sum * shape[0] as f32 / count as f32;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                each * (0.5 + (seed >> 8) as f32 / (1 << 24) as f32)
            })
            .collect();
        Tensor::from_shape(shape, &values).unwrap()
    };
    let picture = model.add_source("picture", f32::fact([1, channels, bands, frames])).unwrap();
    let constant = |model: &mut TypedModel, name: &str, value: Tensor| model.add_const(name, value).unwrap();
    let relu = |model: &mut TypedModel, name: &str, floor: f32, x: OutletId| {
        let floor = model.add_const(format!("{name}.floor"), tensor4(&[[[[floor]]]])).unwrap();
        model.wire_node(name, max(), &[x, floor]).unwrap()[0]
    };

    let w = constant(&mut model, "w1", uneven(&[CHANNELS, channels, 7, 7], 1.0));
    let b = constant(&mut model, "b1", tensor1(&[LIFT; CHANNELS]));
    let conv = Conv::new(pool(7, 2, 1, channels), KernelFormat::OIHW, 1, None);
    let x = model.wire_node("conv1", conv, &[picture, w, b]).unwrap()[0];
    let x = relu(&mut model, "relu1", 0.0, x);
    let mut spec = pool(3, 2, 1, CHANNELS);
    spec.dilations = None;
    let x = model.wire_node("pool", MaxPool::new(spec, None), &[x]).unwrap()[0];

    let groups = if twist == Twist::Groups { 2 } else { 1 };
    let dilation = if twist == Twist::Dilated { 2 } else { 1 };
    let w = constant(&mut model, "w2", uneven(&[CHANNELS, CHANNELS / groups, 3, 3], 1.0));
    let b = constant(&mut model, "b2", tensor1(&[0.1f32; CHANNELS]));
    let conv = Conv::new(pool(3, 1, dilation, CHANNELS), KernelFormat::OIHW, groups, None);
    let y = model.wire_node("conv2", conv, &[x, w, b]).unwrap()[0];
    let y = relu(&mut model, "relu2", if twist == Twist::Floor { 0.5 } else { 0.0 }, y);
    let w = constant(&mut model, "w3", uneven(&[CHANNELS, CHANNELS, 3, 3], 1.0));
    let b = constant(&mut model, "b3", tensor0(0.2f32));
    let b = model.wire_node("b3.all", MultiBroadcastTo { shape: tvec![CHANNELS.to_dim()].into() }, &[b]).unwrap()[0];
    let conv = Conv::new(pool(3, 1, 1, CHANNELS), KernelFormat::OIHW, 1, None);
    let y = model.wire_node("conv3", conv, &[y, w, b]).unwrap()[0];
    let x = model.wire_node("add", add(), &[y, x]).unwrap()[0];
    let x = relu(&mut model, "relu3", 0.0, x);

    let pixels: usize = model.outlet_fact(x).unwrap().shape.as_concrete().unwrap()[2..].iter().product();
    let reducer = if twist == Twist::MaxOfChannel { Reducer::Max } else { Reducer::Sum };
    let share = if twist == Twist::MaxOfChannel { 1.0 } else { 1.0 / pixels as f32 };
    let x = model.wire_node("sum", Reduce { axes: tvec![2, 3], reducer }, &[x]).unwrap()[0];
    let share = constant(&mut model, "share", tensor4(&[[[[share]]]]));
    let x = model.wire_node("mean", mul(), &[x, share]).unwrap()[0];
    let x = model.wire_node("row", AxisOp::Rm(3), &[x]).unwrap()[0];
    let x = model.wire_node("flat", AxisOp::Rm(2), &[x]).unwrap()[0];
    let mut dense = uneven(&[2, CHANNELS], 0.5);
    dense.try_as_plain_ram_mut().unwrap().as_slice_mut::<f32>().unwrap()[..CHANNELS].fill(0.0);
    let w = constant(&mut model, "w4", dense);
    let axes: AxesMapping = "nk,ok->no".parse().unwrap();
    let x = model.wire_node("dense", EinSum::new(axes, f32::datum_type()), &[x, w]).unwrap()[0];
    let b = constant(&mut model, "b4", tensor2(&[[0.0, -LIFT / 2.0]]));
    let mut x = model.wire_node("logits", add(), &[x, b]).unwrap()[0];
    if twist == Twist::Softmax {
        let op = Softmax::new(tvec![1], None, SoftmaxKind::Softmax);
        x = model.wire_node("softmax", op, &[x]).unwrap()[0];
    }
    model.select_output_outlets(&[x]).unwrap();
    model
}

/// The manifest of the shipped model, and its weights file.
pub fn shipped() -> (Manifest, Vec<u8>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/default");
    let text = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
    let manifest = Manifest::parse("manifest.toml", &text).unwrap();
    let bytes = std::fs::read(folder.join(&manifest.file)).unwrap();
    (manifest, bytes)
}

/// The manifest of the tests' tiny model, and a network of its shape in its weights file.
pub fn manifest_and_bytes(twist: Twist) -> (Manifest, Vec<u8>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny");
    let text = std::fs::read_to_string(folder.join("manifest-in.toml")).unwrap();
    let mut manifest = Manifest::parse_unconverted("manifest-in.toml", &text).unwrap();
    let model = network(manifest.input_shape(), twist);
    let plain = tract_nnef::nnef().write_to_tar_with_config(&model, Vec::new(), false, true).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let bytes = packed.finish().unwrap();
    manifest.file = "model.nnef.tgz".into();
    manifest.sha256 = sha256_hex(&bytes);
    if twist == Twist::Softmax {
        manifest.output = detector::manifest::Output::Probabilities;
    }
    (manifest, bytes)
}
