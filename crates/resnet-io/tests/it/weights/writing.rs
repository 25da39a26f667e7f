//! Writing: the same back, the same bytes, and never less than a whole file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use insta::assert_snapshot;
use proptest::prelude::*;
use resnet_io::weights::{
    self, DType, ModelFile, ModelMeta, TensorRef, atomic, model_file, write_safetensors,
};
use serde_json::json;

fn meta() -> ModelMeta {
    ModelMeta {
        version: "0.1.0".into(),
        spec: json!({"name": "toy", "stages": [1, 2]}),
        preprocess: json!({"mean": [0.485, 0.456, 0.406]}),
        classes: vec!["cat".into(), "dög \"x\"\n".into()],
        multi_label: true,
        recipe: json!(null),
        progress: json!({"epoch": 3, "loss_bits": "3ff8000000000000"}),
        quantization: json!(null),
    }
}

/// Names of the files in a folder, sorted.
fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_model_file_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let values = [1.5, f32::NAN, -0.0, f32::INFINITY];
    let tensors = [
        TensorRef::f32("fc.weight", &[2, 2], &values),
        TensorRef::made("optim/velocity/fc.weight", &[2, 2], &|| vec![0.25; 4]),
        TensorRef::f32("fc.bias", &[0], &[]),
    ];
    model_file::write(&path, &meta(), &tensors).unwrap();

    let model = ModelFile::read(&path).unwrap();
    assert_eq!(model.meta, meta());
    model.verify().unwrap();
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&model.file.get("fc.weight").unwrap().to_f32()), bits(&values));
    let optim =
        model.under(model_file::OPTIM).map(|(name, tensor)| (name, tensor.to_f32().into_owned()));
    assert_eq!(optim.collect::<Vec<_>>(), [("velocity/fc.weight", vec![0.25; 4])]);
    assert_eq!(listing(folder.path()), ["model.safetensors"]);
    // `open` must not take our own names apart.
    assert_eq!(weights::open(&path).unwrap().tensors.len(), 3);
}

#[test]
fn equal_models_are_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        model_file::write(&path, &meta(), &[TensorRef::f32("a", &[1], &[1.0])]).unwrap();
        std::fs::read(path).unwrap()
    };
    assert_eq!(write("a"), write("b"));
}

#[test]
fn a_flipped_bit_is_found_by_verify_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_file::write(&path, &meta(), &[TensorRef::f32("a", &[2], &[1.0, 2.0])]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = ModelFile::read(&path).unwrap().verify().unwrap_err().to_string();
    let error = error.replace(folder.path().to_str().unwrap(), "");
    assert_snapshot!(error, @"/model.safetensors: checksum 7439122559d149cbfeffce704cbec870afdd1d38d06e0816cb3fea358838fbd0, expected b9c80b5adeca450753a16950c3cc655d271f7bef7a485bc83f112b72fef21d37: the file is damaged");
}

#[test]
fn other_safetensors_files_are_no_model_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    write_safetensors(&path, &BTreeMap::new(), &[TensorRef::f32("a", &[1], &[1.0])]).unwrap();
    let error = ModelFile::read(&path).unwrap_err().to_string();
    assert_snapshot!(error.replace(folder.path().to_str().unwrap(), ""), @r#"/foreign.safetensors: no "resnet.version" in its metadata: not a model file of this program"#);
}

#[test]
fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    atomic::write(&path, |file| file.write_all(b"old")).unwrap();
    let error = atomic::write(&path, |file| {
        file.write_all(&vec![7; 3 << 20])?;
        Err(io::ErrorKind::StorageFull.into())
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(listing(folder.path()), ["last.safetensors"]);
}

#[test]
fn a_copy_replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("last"), folder.path().join("epoch-1"));
    std::fs::write(&from, "new").unwrap();
    std::fs::write(&to, "older").unwrap();
    atomic::copy(&from, &to).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"new");
    assert!(atomic::copy(&folder.path().join("absent"), &to).is_err());
    assert_eq!(listing(folder.path()), ["epoch-1", "last"]);
}

#[test]
#[cfg(unix)]
fn a_link_stays_and_only_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (link, target) = (folder.path().join("link"), folder.path().join("target"));
    std::fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink("target", &link).unwrap();
    atomic::write(&link, |file| file.write_all(b"new")).unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    assert!(link.is_symlink());

    let error = atomic::write(folder.path(), |_| Ok(())).unwrap_err();
    assert_snapshot!(error, @"exists, and is not a file");
    let error = atomic::write(Path::new("/dev/null"), |_| Ok(())).unwrap_err();
    assert_snapshot!(error, @"exists, and is not a file");
}

#[test]
fn leftovers_of_killed_writes_are_removed_and_others_left() {
    let folder = tempfile::tempdir().unwrap();
    let others = [".hidden", ".last.tmp", "last", "last.tmp-1-0"];
    for name in others.iter().chain(&[".last.tmp-1-0", ".last.tmp-77-3", ".best.tmp-1-0"]) {
        std::fs::write(folder.path().join(name), b"x").unwrap();
    }
    atomic::remove_leftovers(folder.path()).unwrap();
    assert_eq!(listing(folder.path()), others);
    atomic::remove_leftovers(&folder.path().join("absent")).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent/model.safetensors");
    let error = model_file::write(&path, &meta(), &[]).unwrap_err().to_string();
    assert_snapshot!(error.replace(folder.path().to_str().unwrap(), ""), @"/absent/model.safetensors: not written: No such file or directory (os error 2)");
}

fn any_dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(vec![
        DType::F64,
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I64,
        DType::I8,
        DType::U16,
        DType::Bool,
    ])
}

fn any_tensor() -> impl Strategy<Value = (DType, Vec<usize>, Vec<u8>)> {
    (any_dtype(), prop::collection::vec(0..4usize, 0..4)).prop_flat_map(|(dtype, shape)| {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        (Just(dtype), Just(shape), prop::collection::vec(any::<u8>(), bytes))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn saving_and_loading_is_identity(
        tensors in prop::collection::btree_map("[a-z./ü\"\\\\]{1,8}", any_tensor(), 1..6),
        metadata in prop::collection::btree_map(".{0,4}", ".{0,8}", 0..3),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.safetensors");
        let refs: Vec<_> = tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| TensorRef::new(name, *dtype, shape, bytes))
            .collect();
        write_safetensors(&path, &metadata, &refs).unwrap();
        let file = weights::open_raw(&path).unwrap();
        prop_assert_eq!(file.metadata, metadata);
        let back: BTreeMap<_, _> = file
            .tensors
            .iter()
            .map(|t| (t.name.clone(), (t.dtype(), t.shape().to_vec(), t.bytes().to_vec())))
            .collect();
        prop_assert_eq!(back, tensors);
        // The format's own library agrees that it is a valid file.
        prop_assert!(safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap()).is_ok());
    }
}
