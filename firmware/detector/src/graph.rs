//! Weights files to tract's typed graph: ONNX, and NNEF with weights in 32, 16 or 8 bits.

use std::io::Read;
use std::sync::Arc;

use tract_core::internal::*;
use tract_nnef::ast::Identifier;
use tract_onnx::prelude::{InferenceFact, InferenceModelExt};

use crate::limits;

/// Ending of the tensor that holds the scales of an 8-bit one: per-channel weights, computed in float.
pub const SCALE_SUFFIX: &str = ".scale";

/// A typed graph from ONNX bytes; `shape` fixes the input where the file leaves it open.
///
/// # Errors
/// tract's.
pub fn typed_from_onnx(bytes: &[u8], shape: Option<[usize; 4]>) -> TractResult<TypedModel> {
    // Shapes that an exporter noted along the way may name a free batch size; the input's shape says all of them anew.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.model_for_read(&mut &bytes[..])?;
    ensure!(model.inputs.len() == 1, "the network has {} inputs, must have one", model.inputs.len());
    if let Some(shape) = shape {
        let own = model.input_fact(0)?.shape.as_concrete_finite()?;
        if own.is_none() {
            model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
        }
    }
    model.into_typed()
}

/// A typed graph from a `.nnef.tgz`; weights stored in 16 or 8 bits become f32 here.
pub(crate) fn typed_from_nnef(bytes: &[u8]) -> TractResult<TypedModel> {
    // The archive is unpacked under a bound: gzip makes a thousandfold of nothing.
    let mut tar = flate2::read::GzDecoder::new(bytes).take(limits::MODEL_UNPACKED_BYTES_MAX);
    let nnef = tract_nnef::nnef();
    let mut proto = nnef.proto_model_for_read(&mut tar)?;
    let labels: Vec<Identifier> = proto.tensors.keys().cloned().collect();
    for label in labels.iter().filter(|label| !label.0.ends_with(SCALE_SUFFIX)) {
        let tensor = &proto.tensors[label];
        let widened = match tensor.datum_type() {
            DatumType::F16 => tensor.cast_to::<f32>()?.into_owned(),
            DatumType::I8 => {
                let scale = Identifier(format!("{}{SCALE_SUFFIX}", label.0));
                let Some(scale) = proto.tensors.get(&scale) else {
                    bail!("{}: 8-bit weights without {SCALE_SUFFIX}", label.0)
                };
                dequantised(tensor, scale)?
            }
            _ => continue,
        };
        proto.tensors.insert(label.clone(), Arc::new(widened));
    }
    proto.tensors.retain(|label, _| !label.0.ends_with(SCALE_SUFFIX));
    nnef.model_for_proto_model(&proto)
}

/// f32 weights from 8-bit ones with one scale for each index of the first axis, or of the first few together.
fn dequantised(weights: &Tensor, scale: &Tensor) -> TractResult<Tensor> {
    let mut wide = weights.cast_to::<f32>()?.into_owned();
    let scale = scale.try_as_plain_ram()?;
    let scale = scale.as_slice::<f32>()?;
    let mut rows = 0;
    let leading = weights.shape().iter().scan(1, |rows, extent| {
        *rows *= extent;
        Some(*rows)
    });
    for count in leading.filter(|count| *count == scale.len()) {
        rows = count;
    }
    ensure!(rows > 0, "weights of {:?} with {} scales", weights.shape(), scale.len());
    let row = wide.len() / rows;
    let mut plain = wide.try_as_plain_ram_mut()?;
    for (values, scale) in plain.as_slice_mut::<f32>()?.chunks_exact_mut(row.max(1)).zip(scale) {
        for value in values {
            *value *= scale;
        }
    }
    Ok(wide)
}
