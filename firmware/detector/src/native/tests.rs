#![allow(clippy::unwrap_used)]

use super::*;
use crate::graph::typed_from_nnef;
use crate::model::softmax;

/// The shipped network with every weight moved by up to 2 %: weights that are no 8-bit codes, of a size and spread that were
/// learnt.
fn uncoded() -> TypedModel {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/default");
    let text = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
    let file = crate::manifest::Manifest::parse("manifest.toml", &text).unwrap().file;
    let mut model = typed_from_nnef(&std::fs::read(folder.join(file)).unwrap()).unwrap().into_decluttered().unwrap();
    let mut noise = 1u32;
    for node in &mut model.nodes {
        let Some(constant) = node.op_as::<Const>().filter(|constant| constant.val().len() > 4096) else { continue };
        let mut tensor = constant.val().as_ref().clone();
        for weight in tensor.try_as_plain_ram_mut().unwrap().as_slice_mut::<f32>().unwrap() {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *weight *= 1.0 + 0.02 * ((noise >> 8) as f32 / (1 << 23) as f32 - 1.0);
        }
        let tensor = Arc::new(tensor);
        node.outputs[0].fact.konst = Some(Arc::clone(&tensor));
        node.op = Box::new(Const::new(tensor).unwrap());
    }
    model
}

fn scores(logits: &[f32]) -> Vec<f32> {
    let mut scores = vec![0.0; logits.len()];
    softmax(logits, 1.0, &mut scores);
    scores
}

/// Winograd's transforms round otherwise than the sums of tract: by far less than a score's third digit.
#[test]
fn scores_by_winograd_are_those_of_tract() {
    let model = uncoded();
    let shape = model.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    let tract = model.clone().into_optimized().unwrap().into_runnable().unwrap();
    let mut noise = 3u32;
    let mut pictures = || -> Vec<f32> {
        let level = (noise % 7) as f32 / 2.0 - 1.5;
        (0..shape.iter().product())
            .map(|cell| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                level + (cell as f32 * 0.013).sin() + (noise >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    };
    let pictures: Vec<Vec<f32>> = (0..4).map(|_| pictures()).collect();
    let expected: Vec<Vec<f32>> = pictures
        .iter()
        .map(|picture| {
            let outputs = tract.run(tvec!(Tensor::from_shape(&shape, picture).unwrap().into())).unwrap();
            scores(outputs[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap())
        })
        .collect();
    let sure = expected.iter().flatten().fold(0f32, |most, x| most.max(*x));
    assert!(sure < 0.95, "scores of {sure} hide what the logits do");
    for kernels in kernels::available() {
        let Native { network, softmax: last } = super::network(model.clone(), kernels, Arithmetic::Float).unwrap();
        assert!(!last);
        // The first two of a ResNet34's four stages have pixels enough at 2 s of sound.
        let kinds = |kind: &str| network.layers().iter().filter(|layer| layer.kind == kind).count();
        assert_eq!((kinds("conv f32, Winograd"), kinds("conv f32")), (13, 23), "{}", kernels.name());
        let mut workspace = network.workspace();
        let mut worst = 0f32;
        for (picture, expected) in pictures.iter().zip(&expected) {
            let own = scores(network.run(&mut workspace, picture, None, &mut |_| ()));
            assert!(own.iter().all(|score| score.is_finite()));
            worst = own.iter().zip(expected).fold(worst, |worst, (a, b)| worst.max((a - b).abs()));
        }
        println!("{}: scores within {worst:.1e}", kernels.name());
        assert!(worst < 1e-4, "{}: {worst}", kernels.name());
    }
}
