//! Reading: values, types, views, wrappers, and every way we know a file can be bad.

use insta::assert_snapshot;
use resnet_io::weights::{self, TensorFile};

use super::{fixture, relative};

#[track_caller]
fn check(file: &TensorFile, name: &str, shape: &[usize], values: &[f32]) {
    let tensor = file.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", file.tensors));
    assert_eq!((tensor.shape(), &*tensor.to_f32()), (shape, values), "{name}");
}

/// The one line that opening a file ends in.
#[track_caller]
fn error(name: &str) -> String {
    match weights::open(&fixture(name)) {
        Ok(file) => panic!("{name} was read: {file:?}"),
        Err(e) => relative(&e),
    }
}

fn skipped(file: &TensorFile) -> String {
    file.skipped.iter().map(|s| format!("{s}\n")).collect()
}

#[track_caller]
fn check_views(name: &str) {
    let file = weights::open(&fixture(name)).unwrap();
    let whole: Vec<f32> = (0..12).map(|v| v as f32).collect();
    check(&file, "whole", &[3, 4], &whole);
    check(&file, "transposed", &[4, 3], &[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    check(&file, "every_second_column", &[3, 2], &[0., 2., 4., 6., 8., 10.]);
    check(&file, "tail", &[5], &[7., 8., 9., 10., 11.]);
    check(&file, "expanded", &[2, 3], &[0.; 6]);
    check(&file, "scalar", &[], &[5.]);
    check(&file, "none_left", &[0, 3], &[]);
}

#[test]
fn strided_views_of_one_storage_are_gathered_from_zip() {
    check_views("views.pth");
}

#[test]
fn strided_views_of_one_storage_are_gathered_from_legacy() {
    check_views("views_legacy.pth");
}

#[track_caller]
fn check_types(name: &str) {
    let file = weights::open(&fixture(name)).unwrap();
    for name in
        ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]
    {
        check(&file, name, &[4], &[0., 1., 2., 3.]);
    }
    check(&file, "bool", &[4], &[0., 1., 1., 1.]);
}

#[test]
fn every_element_type_is_read_from_pth() {
    check_types("types.pth");
}

#[test]
fn every_element_type_is_read_from_safetensors() {
    check_types("types.safetensors");
}

#[test]
fn metadata_of_safetensors_is_kept() {
    let file = weights::open(&fixture("types.safetensors")).unwrap();
    assert_eq!(file.metadata["note"], "ü");
}

#[track_caller]
fn check_wrapped(name: &str) {
    let file = weights::open(&fixture(name)).unwrap();
    check(&file, "conv1.weight", &[2, 1, 2, 2], &[0., 1., 2., 3., 4., 5., 6., 7.]);
    check(&file, "bn1.num_batches_tracked", &[], &[7.]);
    check(&file, "fc.weight", &[3, 2], &[1.; 6]);
    check(&file, "fc.bias", &[3], &[0.; 3]);
    assert_eq!(file.tensors.len(), 4);
    let expected = [
        "arch (text)",
        "epoch (number)",
        "optimizer.param_groups.0.lr (number)",
        "optimizer.param_groups.0.nesterov (bool)",
        "optimizer.state.0.momentum_buffer (tensor)",
    ];
    assert_eq!(skipped(&file).lines().collect::<Vec<_>>(), expected);
    let line = "arch (text), epoch (number), optimizer (3 entries)";
    assert_eq!(file.passed_over().unwrap(), line);
}

#[test]
fn a_training_checkpoint_gives_its_state_dict() {
    check_wrapped("wrapped.pth");
}

#[test]
fn a_legacy_training_checkpoint_gives_its_state_dict() {
    check_wrapped("wrapped_legacy.pth");
}

#[test]
fn wrappers_within_wrappers_are_unwrapped() {
    let file = weights::open(&fixture("twice.pth")).unwrap();
    check(&file, "fc.weight", &[1], &[1.]);
    assert_eq!(skipped(&file), "a.b (tensor)\n");
}

#[test]
fn a_call_in_a_pickle_is_named_and_not_made() {
    let file = weights::open(&fixture("call_beside_tensor.pth")).unwrap();
    check(&file, "fc.bias", &[1], &[1.]);
    assert_snapshot!(skipped(&file), @"extra (posix.system)");
    assert_snapshot!(error("call.pkl"), @"call.pkl: not readable as pickle: invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found posix.system");
    assert_snapshot!(error("call_in_dict.pkl"), @"call_in_dict.pkl: holds no tensors, only fc.bias (posix.system)");
    // What the calls would have done.
    assert!(!std::path::Path::new("executed-by-pickle").exists());
}

#[test]
fn two_tensors_of_one_name_are_an_error() {
    assert_snapshot!(error("same_name.pth"), @r#"same_name.pth: "fc.bias" and "linear.bias" are both our "fc.bias""#);
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    assert_snapshot!(error("huge_storage.pth"), @"huge_storage.pth: not readable as PyTorch (zip): pickle: invalid data in pickle file: Tensor with shape [1099511627776] would materialize 4398046511104 bytes, above the 10737418240 byte limit");
    assert_snapshot!(error("short_storage.pth"), @"short_storage.pth: tensor 'fc.weight': Tensor with shape [1048576] requires 1048576 elements from storage '0', but only 1 are available");
    assert_snapshot!(error("beyond_storage.pth"), @"beyond_storage.pth: not readable as PyTorch (zip): pickle: invalid data in pickle file: Tensor with shape [5] and stride [1] at offset 0 needs 5 elements, but storage '0' declares 1");
    assert_snapshot!(error("lost_storage.pth"), @"lost_storage.pth: tensor 'fc.weight': Failed to read storage '0' for tensor with shape [1]: ZIP entry 'archive/data/0': not found in archive");
    assert_snapshot!(error("expand_bomb.pth"), @"expand_bomb.pth: tensors of 4294967296 bytes in a file of 1605: refused above 67108864");
    assert_snapshot!(error("overflow.safetensors"), @"overflow.safetensors: damaged safetensors header: overflow computing buffer size from shape and/or element type");
    assert_snapshot!(error("overlap.safetensors"), @"overlap.safetensors: damaged safetensors header: invalid offset for tensor `b`");
    assert_snapshot!(error("long_header.safetensors"), @"long_header.safetensors: a safetensors header of 1099511627776 bytes: refused above 100000000");
}

#[test]
fn pickles_that_unfold_without_end_are_refused() {
    assert_snapshot!(error("memo_bomb.pkl"), @"memo_bomb.pkl: not readable as pickle: pickle: invalid data in pickle file: Pickle memo bomb detected: copies exceeded 1000000 nodes or 67108864 bytes");
    assert_snapshot!(error("deep.pkl"), @"deep.pkl: not readable as pickle: pickle: invalid data in pickle file: pickle nesting exceeds 1000 levels");
}

#[test]
fn truncated_files_are_errors() {
    assert_snapshot!(error("wrapped_truncated.pth"), @"wrapped_truncated.pth: the PyTorch (zip) file is cut short or damaged: zip archive error: invalid Zip archive: Could not find EOCD");
    assert_snapshot!(error("wrapped_legacy_truncated.pth"), @"wrapped_legacy_truncated.pth: the PyTorch (legacy pickle) file is cut short or damaged: pickle: IO error: failed to fill whole buffer");
    // The rest of the message is a memory address, different each time the file is made.
    assert!(error("wrapped_legacy_last_byte.pth").contains("extends beyond the end of the file"));
    assert_snapshot!(error("truncated.safetensors"), @"truncated.safetensors: the header describes 796 bytes, the file has 791");
}

/// Bytes between tried lengths: prime, so that it meets every part of a word.
const TRUNCATION_STEP: usize = 13;

#[test]
fn a_file_cut_anywhere_is_an_error_or_has_all_tensors() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["wrapped.pth", "wrapped_legacy.pth", "types.safetensors", "views.pth"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let tensors = weights::open(&fixture(name)).unwrap().tensors.len();
        for length in (0..whole.len()).step_by(TRUNCATION_STEP) {
            let path = folder.path().join(name);
            std::fs::write(&path, &whole[..length]).unwrap();
            if let Ok(file) = weights::open(&path) {
                assert_eq!(file.tensors.len(), tensors, "{name} cut to {length} bytes");
            }
        }
    }
}

#[test]
fn files_without_a_dictionary_of_tensors_are_errors() {
    assert_snapshot!(error("list.pth"), @"list.pth: not readable as PyTorch (zip): invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found list");
    assert_snapshot!(error("tensor.pth"), @"tensor.pth: not readable as PyTorch (zip): invalid PyTorch file format: Expected a dictionary at the root of the PyTorch file, found torch.Tensor");
    assert_snapshot!(error("sparse.pth"), @"sparse.pth: not readable as PyTorch (zip): pickle: unsupported Python type 'torch._utils._rebuild_sparse_tensor'. The file holds tensor data in a form this reader cannot represent.");
    assert_snapshot!(error("no_tensors.pth"), @"no_tensors.pth: holds no tensors, only arch (text), best (none), epoch (number) and 2 more");
}

#[test]
fn files_of_other_kinds_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let check = |bytes: &[u8]| {
        let path = folder.path().join("x.pth");
        std::fs::write(&path, bytes).unwrap();
        weights::open(&path).unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "")
    };
    assert_snapshot!(check(b""), @"/x.pth: neither safetensors nor a PyTorch file: it is empty");
    assert_snapshot!(check(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), @"/x.pth: neither safetensors nor a PyTorch file: it is a git-lfs pointer, the weights were not downloaded");
    assert_snapshot!(check(b"\n<!DOCTYPE html><html>"), @"/x.pth: neither safetensors nor a PyTorch file: it is a web page, perhaps a failed download");
    assert_snapshot!(check(b"\x89HDF\r\n\x1a\n........"), @"/x.pth: neither safetensors nor a PyTorch file: it is HDF5 (Keras), export it to safetensors first");
    assert_snapshot!(check(b"\x1f\x8b\x08"), @"/x.pth: neither safetensors nor a PyTorch file: it is gzip-compressed, unpack it first");
    assert_snapshot!(check(b"wrong magic"), @"/x.pth: neither safetensors nor a PyTorch file: its first bytes are of no known kind");
    assert_snapshot!(check(b"PK\x03\x04"), @"/x.pth: the PyTorch (zip) file is cut short or damaged: zip archive error: invalid Zip archive: Could not find EOCD");
    assert_snapshot!(check(b"\x80\x02"), @"/x.pth: the pickle file is cut short or damaged: pickle: IO error: failed to fill whole buffer");
}

#[test]
fn what_is_not_a_file_is_an_error() {
    assert_snapshot!(error(""), @": not a file");
    assert_snapshot!(error("absent.pth"), @"absent.pth: No such file or directory (os error 2)");
}
