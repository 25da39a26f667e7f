//! Other projects' networks, tensor by tensor: each must fit ours once its names are ours.

use std::collections::BTreeMap;

use resnet_core::build::{self, BuildOptions, Mode};
use resnet_core::zoo;
use resnet_io::weights::{DType, Expected, Format, Head, Tensor, TensorFile, match_tensors, names};

use super::fixture;

/// What `xtask/oracle/names.py` lists for each project and network.
fn listed() -> BTreeMap<(String, String), Vec<Tensor>> {
    let text = std::fs::read_to_string(fixture("names.tsv")).unwrap();
    let mut networks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in text.lines() {
        let [project, network, name, shape] =
            line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let extents = shape.split(',').filter(|extent| !extent.is_empty());
        let shape: Vec<usize> = extents.map(|extent| extent.parse().unwrap()).collect();
        // A byte an element will do: only names and shapes matter here.
        let zeros = vec![0; shape.iter().product()];
        let key = (project.to_string(), network.to_string());
        let tensor = Tensor::new(name.into(), DType::U8, shape, zeros);
        networks.entry(key).or_default().push(tensor);
    }
    networks
}

/// What keeps a listed network from fitting ours; empty if it fits.
fn misfit(project: &str, network: &str, tensors: Vec<Tensor>) -> String {
    let file = TensorFile {
        path: project.into(),
        format: Format::Safetensors,
        metadata: BTreeMap::new(),
        tensors,
        skipped: Vec::new(),
    };
    let file = names::rename(file).unwrap();
    let spec = zoo::network(network).unwrap();
    let graph = build::forward(&spec, &BuildOptions::imagenet(1, Mode::Evaluation)).unwrap();
    let expected: Vec<_> = graph
        .states()
        .map(|(id, _)| Expected { name: &graph.get(id).name, shape: graph.shape(id) })
        .collect();
    match match_tensors(network, &expected, &file, Head::Keep) {
        Ok(matched) => {
            assert_eq!(matched.tensors.len(), expected.len());
            String::new()
        }
        Err(mismatch) => mismatch.to_string(),
    }
}

#[test]
fn networks_of_torchvision_timm_and_hugging_face_fit_ours() {
    let misfits: Vec<_> = listed()
        .into_iter()
        .map(|((project, network), tensors)| misfit(&project, &network, tensors))
        .filter(|misfit| !misfit.is_empty())
        .collect();
    assert_eq!(misfits, [""; 0]);
}
