//! Checkpoints: a run that goes on from one is the run that was never stopped.

use std::fs;
use std::path::Path;
use std::process::Command;

use insta::assert_snapshot;
use resnet_core::build::{BuildOptions, Mode};
use resnet_core::executor::{Executor, Input, StepId};
use resnet_core::init::initial_state;
use resnet_core::op::CrossEntropy;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use resnet_core::{build, zoo};
use resnet_io::weights::{ModelMeta, TensorRef, model_file};
use resnet_train::checkpoint::{
    self, Best, Bits, Checkpoints, Progress, cut_back, load, restore, save, sync_metrics,
};
use resnet_train::score::Sums;

const BATCH: usize = 2;
const SIDE: usize = 8;

/// A small network in training on the reference executor.
struct Run {
    executor: ReferenceExecutor<f32>,
    gradients: StepId,
    update: StepId,
}

impl Run {
    fn new() -> Run {
        let mut spec = zoo::network("cifar-resnet8").unwrap();
        (spec.input.height, spec.input.width) = (SIDE, SIDE);
        let options = BuildOptions::imagenet(BATCH, Mode::Training);
        let loss = CrossEntropy { label_smoothing: 0.0, divisor: BATCH };
        let gradients = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
        let forward = build::forward(&spec, &options).unwrap();
        let sgd =
            SgdOptions { weight_decay: 1e-4, decay: Decay::All, nesterov: true, clip_norm: None };
        let update = update_graph(&forward, &sgd).unwrap();
        let mut executor = ReferenceExecutor::new();
        let gradients = executor.compile(&gradients).unwrap();
        let update = executor.compile(&update).unwrap();
        for initial in initial_state(&spec, &forward, 1) {
            executor.import(&initial.name, &initial.shape, &initial.values).unwrap();
        }
        Run { executor, gradients, update }
    }

    fn step(&mut self, number: u64) {
        let pixels: Vec<u8> = (0..(BATCH * SIDE * SIDE * 3) as u64)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(number * 977) >> 7) as u8)
            .collect();
        let labels = [number as u32 % 10, 3];
        self.executor.run(self.gradients, &[Input::U8(&pixels), Input::U32(&labels)]).unwrap();
        self.executor.run(self.update, &[Input::F32(&[0.1, 0.9])]).unwrap();
    }

    /// All lasting state, by name, as bits.
    fn bits(&self) -> Vec<(String, Vec<u32>)> {
        let mut states: Vec<_> = self.executor.states();
        states.retain(|(name, _)| !name.starts_with("grad/"));
        states.sort();
        let export = |name: &str| self.executor.export(name).unwrap();
        let bits = |name: &str| export(name).iter().map(|v| v.to_bits()).collect();
        states.iter().map(|(name, _)| (name.clone(), bits(name))).collect()
    }
}

fn meta() -> ModelMeta {
    ModelMeta { version: "0.1.0".into(), ..ModelMeta::default() }
}

fn progress() -> Progress {
    Progress {
        epoch: 1,
        step: 3,
        epoch_step: 2,
        sums: Sums { images: 4, top1: 1, top5: 3, loss: Bits(0.1 + 0.2), ..Sums::default() },
        replaced: 2,
        metrics_bytes: 12,
        best: Some(Best { epoch: 1, goal: Bits(2.0 / 3.0), loss: Bits(0.7) }),
        final_goal: Some(Bits(2.0 / 3.0)),
        train_images: 8,
        seconds: 1.5,
        finished: false,
        isa: "avx2".into(),
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut whole = Run::new();
    (0..3).for_each(|step| whole.step(step));
    save(&path, &meta(), &progress(), &whole.executor).unwrap();
    (3..5).for_each(|step| whole.step(step));

    let checkpoint = load(&path).unwrap();
    assert_eq!(checkpoint.progress, progress());
    let mut resumed = Run::new();
    restore(&mut resumed.executor, &checkpoint).unwrap();
    (3..5).for_each(|step| resumed.step(step));
    assert_eq!(whole.bits(), resumed.bits());
    assert!(whole.bits().iter().any(|(name, _)| name.starts_with("optim/velocity/")));
}

#[test]
fn equal_runs_write_equal_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        save(&path, &meta(), &progress(), &Run::new().executor).unwrap();
        fs::read(path).unwrap()
    };
    assert_eq!(write("a"), write("b"));
}

#[test]
fn state_that_the_run_has_no_place_for_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let progress = serde_json::to_value(progress()).unwrap();
    let meta = ModelMeta { progress, ..meta() };
    let tensor = TensorRef::f32("optim/square/fc.bias", &[1], &[0.0]);
    model_file::write(&path, &meta, &[tensor]).unwrap();
    let error = restore(&mut Run::new().executor, &load(&path).unwrap()).unwrap_err();
    assert_snapshot!(relative(&error, folder.path()), @"last.safetensors: there is no state tensor named optim/square/fc.bias");
    let tensor = TensorRef::f32("fc.bias", &[1], &[0.0]);
    model_file::write(&path, &meta, &[tensor]).unwrap();
    let error = restore(&mut Run::new().executor, &load(&path).unwrap()).unwrap_err();
    assert_snapshot!(relative(&error, folder.path()), @"last.safetensors: does not fit this run's network: 59 missing (conv1.weight [16, 3, 3, 3], bn1.weight [16], bn1.bias [16] and 56 more); 1 of another shape (fc.bias is [1], expected [10])");
}

#[test]
fn a_model_file_without_a_run_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model_file::write(&path, &meta(), &[TensorRef::f32("a", &[1], &[1.0])]).unwrap();
    assert_snapshot!(relative(&load(&path).unwrap_err(), folder.path()), @r#"model.safetensors: metadata "resnet.progress": invalid type: null, expected struct Progress"#);
}

#[test]
fn a_damaged_checkpoint_is_found_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, &meta(), &progress(), &Run::new().executor).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 0x40;
    fs::write(&path, bytes).unwrap();
    assert!(load(&path).unwrap_err().to_string().ends_with("the file is damaged"));
}

#[test]
fn metrics_are_cut_back_to_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.jsonl");
    let mut file = cut_back(&path, 0).unwrap();
    let mut append = |text: &str| {
        use std::io::Write;
        file.write_all(text.as_bytes()).unwrap();
        sync_metrics(&path, &file).unwrap()
    };
    let noted = append("{\"step\":1}\n");
    append("{\"step\":2}\n{\"st");
    let mut file = cut_back(&path, noted).unwrap();
    std::io::Write::write_all(&mut file, b"{\"step\":2}\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2}\n");

    assert_snapshot!(relative(&cut_back(&path, 1000).unwrap_err(), folder.path()), @"metrics.jsonl: 22 bytes, but the checkpoint was written after 1000");
    fs::remove_file(&path).unwrap();
    assert_snapshot!(relative(&cut_back(&path, noted).unwrap_err(), folder.path()), @"metrics.jsonl: No such file or directory (os error 2)");
}

#[test]
fn what_a_killed_write_left_is_cleared_and_checkpoints_stay() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(folder.path());
    checkpoints.prepare().unwrap();
    fs::write(&checkpoints.last, "last").unwrap();
    fs::write(folder.path().join("checkpoints/.last.safetensors.tmp-9-0"), "half").unwrap();
    checkpoints.prepare().unwrap();
    assert_eq!(fs::read_dir(folder.path().join("checkpoints")).unwrap().count(), 1);
}

#[test]
fn another_instruction_set_or_version_is_warned_of() {
    let warning = |version, isa| progress().warning("0.1.0", version, isa).unwrap_or_default();
    assert_snapshot!(warning("0.1.0", "avx2"), @"");
    assert_snapshot!(warning("0.1.0", "avx512"), @"the checkpoint was written on avx2, now on avx512: results will not be the same bits");
    assert_snapshot!(warning("0.2.0", "avx2"), @"the checkpoint was written by version 0.1.0, now 0.2.0: results will not be the same bits");
    assert_snapshot!(warning("0.2.0", "portable"), @"the checkpoint was written by version 0.1.0 on avx2, now 0.2.0 on portable: results will not be the same bits");
}

#[test]
fn numbers_survive_to_the_bit() {
    for value in [0.1, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE / 2.0] {
        let text = serde_json::to_string(&Bits(value)).unwrap();
        assert_eq!(serde_json::from_str::<Bits>(&text).unwrap(), Bits(value), "{text}");
    }
    let error = serde_json::from_str::<Bits>("\"+0000000000000f0\"").unwrap_err();
    assert_snapshot!(error, @r#""+0000000000000f0" is not 16 hexadecimal digits"#);
}

/// Set in the process that [`a_full_disk_leaves_the_old_checkpoint`] starts: where it is to write.
const CHILD: &str = "RESNET_TEST_FULL_DISK";

/// A file size limit stands for the full disk. It holds for a whole process, so this test runs
/// itself in another.
#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_old_checkpoint() {
    if let Some(path) = std::env::var_os(CHILD) {
        let error = save(path.as_ref(), &meta(), &progress(), &Run::new().executor).unwrap_err();
        let checkpoint::CheckpointError::Weights(error) = error else { panic!("{error}") };
        assert!(error.to_string().contains("last.safetensors: not written: File too large"));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(folder.path());
    checkpoints.prepare().unwrap();
    save(&checkpoints.last, &meta(), &progress(), &Run::new().executor).unwrap();
    let before = fs::read(&checkpoints.last).unwrap();

    // Blocks of 512 or 1,024 bytes, by shell; the checkpoint has 600 KB. Ignored, the signal
    // becomes an error.
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("checkpoint::a_full_disk_leaves_the_old_checkpoint")
        .env(CHILD, &checkpoints.last)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    assert_eq!(fs::read(&checkpoints.last).unwrap(), before);
    assert_eq!(fs::read_dir(checkpoints.last.parent().unwrap()).unwrap().count(), 1);
    load(&checkpoints.last).unwrap();
}

fn relative(error: &impl std::fmt::Display, folder: &Path) -> String {
    error.to_string().replace(&format!("{}/", folder.display()), "")
}
