//! An ONNX file whose weights stand in a second file beside it, made whole.
//!
//! PyTorch's exporter writes `model.onnx` and `model.onnx.data` unless it is told otherwise. *External data*: a tensor that
//! names a file, an offset and a length in place of its values. The device's parser takes one file of bytes, so the
//! values are put back where they belong.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use detector::limits;
use files::model_dir::read_bounded;
use prost::Message;
use tract_onnx::pb::{GraphProto, ModelProto, TensorProto, tensor_proto::DataLocation};

/// Reads `path`, with the weights that it keeps in other files of its folder.
///
/// # Errors
/// Not an ONNX file, a file that is missing, too large or outside the folder, a range that the file does not have.
pub fn read_whole(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read_bounded(path, limits::MODEL_BYTES_MAX)?;
    // What is no ONNX at all is left to the network's own parser, which says so.
    let Ok(mut model) = ModelProto::decode(&bytes[..]) else { return Ok(bytes) };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = Files { folder, read: HashMap::new() };
    let moved = model.graph.as_mut().map_or(Ok(0), |graph| files.fill_graph(graph))?;
    if moved == 0 {
        return Ok(bytes);
    }
    let whole = model.encode_to_vec();
    ensure!(whole.len() as u64 <= limits::MODEL_BYTES_MAX, "{} bytes with its weights, too large", whole.len());
    Ok(whole)
}

/// The files beside the ONNX file, each read once.
struct Files<'a> {
    folder: &'a Path,
    read: HashMap<PathBuf, Vec<u8>>,
}

impl Files<'_> {
    /// Fills every tensor of the graph and of the graphs inside it; how many were external.
    fn fill_graph(&mut self, graph: &mut GraphProto) -> anyhow::Result<usize> {
        let mut moved = 0;
        for tensor in &mut graph.initializer {
            moved += self.fill(tensor)?;
        }
        for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
            for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
                moved += self.fill(tensor)?;
            }
            for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
                moved += self.fill_graph(inner)?;
            }
        }
        Ok(moved)
    }

    fn fill(&mut self, tensor: &mut TensorProto) -> anyhow::Result<usize> {
        if tensor.data_location != Some(DataLocation::External as i32) {
            return Ok(0);
        }
        let name = tensor.name.clone();
        let values = self.values(tensor).with_context(|| format!("weights `{name}`"))?;
        tensor.raw_data = values;
        tensor.data_location = Some(DataLocation::Default as i32);
        tensor.external_data.clear();
        Ok(1)
    }

    fn values(&mut self, tensor: &TensorProto) -> anyhow::Result<Vec<u8>> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
        let number = |key: &str| {
            entry(key)
                .map(|text| text.parse::<usize>().with_context(|| format!("external_data `{key}`: {text}")))
                .transpose()
        };
        let location = entry("location").context("external_data names no file")?;
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = self.file(location)?;
        let end = length.map_or(Some(file.len()), |length| offset.checked_add(length));
        match end.and_then(|end| file.get(offset..end)) {
            Some(values) => Ok(values.to_vec()),
            None => bail!("{location}: {} bytes, too short for the {length:?} bytes from {offset} on", file.len()),
        }
    }

    /// A model from elsewhere must not name any file of this machine as its weights.
    fn file(&mut self, location: &str) -> anyhow::Result<&[u8]> {
        let plain =
            Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        ensure!(plain && !location.is_empty(), "{location}: must be a file beside the ONNX file");
        let path = self.folder.join(location);
        if !self.read.contains_key(&path) {
            let bytes = read_bounded(&path, limits::MODEL_BYTES_MAX)?;
            self.read.insert(path.clone(), bytes);
        }
        Ok(&self.read[&path])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tract_onnx::pb::StringStringEntryProto;

    fn model(entries: &[(&str, &str)]) -> ModelProto {
        let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).into(), value: (*value).into() };
        let tensor = TensorProto {
            dims: vec![2],
            data_type: 1,
            name: "w".into(),
            data_location: Some(DataLocation::External as i32),
            external_data: entries.iter().map(entry).collect(),
            ..TensorProto::default()
        };
        ModelProto {
            ir_version: 8,
            graph: Some(GraphProto { initializer: vec![tensor], ..GraphProto::default() }),
            ..ModelProto::default()
        }
    }

    fn read(entries: &[(&str, &str)]) -> anyhow::Result<TensorProto> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("m.onnx"), model(entries).encode_to_vec()).unwrap();
        std::fs::write(dir.path().join("m.onnx.data"), (0..16).collect::<Vec<u8>>()).unwrap();
        let whole = read_whole(&dir.path().join("m.onnx"))?;
        Ok(ModelProto::decode(&whole[..]).unwrap().graph.unwrap().initializer.remove(0))
    }

    #[test]
    fn weights_beside_the_file_are_put_in() {
        let tensor = read(&[("location", "m.onnx.data"), ("offset", "4"), ("length", "8")]).unwrap();
        assert_eq!(tensor.raw_data, (4..12).collect::<Vec<u8>>());
        assert_eq!((tensor.data_location, tensor.external_data.len()), (Some(0), 0));
        assert_eq!(read(&[("location", "m.onnx.data")]).unwrap().raw_data.len(), 16);
    }

    #[test]
    fn what_is_not_there_or_not_beside_it_is_refused() {
        for (entries, cause) in [
            (&[("location", "gone.data")][..], "gone.data"),
            (&[("location", "m.onnx.data"), ("offset", "12"), ("length", "8")], "too short"),
            (&[("location", "m.onnx.data"), ("offset", "x")], "`offset`"),
            (&[("location", "m.onnx.data"), ("offset", "1"), ("length", "18446744073709551615")], "too short"),
            (&[("location", "../m.onnx.data")], "beside the ONNX file"),
            (&[("location", "/etc/hostname")], "beside the ONNX file"),
            (&[("offset", "0")], "names no file"),
        ] {
            let error = format!("{:#}", read(entries).unwrap_err());
            assert!(error.contains(cause) && error.contains("`w`"), "{entries:?}: {error}");
        }
    }
}
