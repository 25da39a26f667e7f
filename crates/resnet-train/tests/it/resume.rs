//! A run that is killed, at any moment, and resumed is the run that never was.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use resnet_train::checkpoint;
use resnet_train::event::{Ending, Event, TIME_KEYS};
use resnet_train::run_folder::RunFolder;
use resnet_train::trainer::Moment;
use serde_json::Value;

use crate::tiny::{self, Watch};

/// Set in the processes that these tests start: the run's folder, and where to die in it.
const FOLDER: &str = "RESNET_TEST_RUN";
const DIE_AT: &str = "RESNET_TEST_DIE_AT";

/// What must be equal to the bit: parameters, statistics, momentum; metrics, times aside; progress.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    tensors: BTreeMap<String, Vec<u32>>,
    best: BTreeMap<String, Vec<u32>>,
    metrics: Vec<Value>,
    progress: Value,
}

fn outcome(run: &Path) -> Outcome {
    let checkpoints = checkpoint::Checkpoints::of_run(run);
    let tensors = |path: &Path| {
        let checkpoint = checkpoint::load(path).unwrap();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
        let tensors = checkpoint.model.file.tensors.iter();
        tensors.map(|t| (t.name.clone(), bits(&t.to_f32()))).collect()
    };
    let progress = checkpoint::load(&checkpoints.last).unwrap().progress;
    let mut progress = serde_json::to_value(progress).unwrap();
    // The seconds, and with them the length of a line, depend on time.
    for key in ["seconds", "metrics_bytes"] {
        progress.as_object_mut().unwrap().remove(key).unwrap();
    }
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().retain(|key, _| !TIME_KEYS.contains(&key.as_str()));
        value
    });
    Outcome {
        tensors: tensors(&checkpoints.last),
        best: tensors(&checkpoints.best),
        metrics: lines.collect(),
        progress,
    }
}

/// The run that nothing interrupts.
pub(crate) fn uninterrupted(changes: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let end = tiny::run(folder.path(), &tiny::recipe(changes), tiny::executor(), Watch::default());
    assert_eq!(end.unwrap().ending, Ending::Finished);
    let outcome = outcome(folder.path());
    let steps = outcome.metrics.iter().filter(|line| line["event"] == "step");
    let steps: Vec<u64> = steps.map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    assert!(outcome.tensors.keys().any(|name| name.starts_with("optim/velocity/")));
    outcome
}

/// Not a test by itself: the process that others start, and that is to die. A line for each event
/// on stdout lets the parent choose its moment.
#[test]
fn a_process_that_trains_until_it_is_killed() {
    let (Some(folder), die_at) = (std::env::var_os(FOLDER), std::env::var(DIE_AT)) else {
        return;
    };
    let die_at = die_at.unwrap();
    let (name, count) = die_at.split_once(' ').unwrap();
    let left = Cell::new(count.parse::<u32>().unwrap());
    let on_moment = |moment: Moment| {
        if format!("{moment:?}") == name {
            left.set(left.get() - 1);
            if left.get() == 0 {
                kill_oneself();
            }
        }
    };
    if name == "MidCheckpointWrite" {
        die_while_writing(folder.as_ref(), left.get());
    }
    let mut on_event = |event: &Event| {
        // Straight to the file: the test harness keeps what is printed.
        use std::io::Write;
        let name = event.to_json().map_or("none".into(), |json| json["event"].to_string());
        let _ = writeln!(std::io::stdout(), "event {name}");
    };
    let watch = Watch { on_event: Some(&mut on_event), on_moment: Some(&on_moment), stop: None };
    tiny::run(folder.as_ref(), &tiny::recipe(&[]), tiny::executor(), watch).unwrap();
}

/// `kill -9`, sent by the process itself: nothing of it runs on.
fn kill_oneself() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    kill_process(getpid(), Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

/// Ends the process while the temporary file of the `count`-th write of `last` is there.
fn die_while_writing(run: &Path, count: u32) {
    let folder = run.join("checkpoints");
    std::thread::spawn(move || {
        let is_writing = || {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut names = entries.map(|entry| entry.file_name());
            names.any(|name| name.to_string_lossy().starts_with(".last.safetensors.tmp"))
        };
        let (mut seen, mut was_writing) = (0, false);
        loop {
            let now = is_writing();
            seen += u32::from(now && !was_writing);
            if seen == count {
                kill_oneself();
            }
            was_writing = now;
            std::thread::yield_now();
        }
    });
}

fn start(run: &Path, die_at: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "resume::a_process_that_trains_until_it_is_killed", "--nocapture"])
        .env(FOLDER, run)
        .env(DIE_AT, die_at)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a run where it says, goes on with it in this process, and compares.
#[track_caller]
fn check_killed_at(die_at: &str, expected: &Outcome) {
    // What watches for the write of a checkpoint may miss so short a moment: then once more.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let status = start(folder.path(), die_at).wait_with_output().unwrap().status;
        if status.signal() == Some(9) {
            return finish_and_compare(folder.path(), die_at, expected);
        }
        assert!(status.success() && die_at.starts_with("MidCheckpointWrite"), "{die_at}: {status}");
    }
    panic!("{die_at}: no write was met");
}

#[track_caller]
pub(crate) fn finish_and_compare(run: &Path, what: &str, expected: &Outcome) {
    let end = tiny::run(run, &tiny::recipe(&[]), tiny::executor(), Watch::default());
    assert!(matches!(end.unwrap().ending, Ending::Finished | Ending::AlreadyFinished), "{what}");
    let found = outcome(run);
    assert_eq!(found.metrics, expected.metrics, "{what}");
    assert!(found == *expected, "{what}: tensors or progress differ");
    let left = fs::read_dir(run.join("checkpoints")).unwrap().count();
    assert_eq!(left, 2, "{what}: something was left beside last and best");
}

#[test]
fn a_run_killed_at_chosen_moments_is_resumed_to_the_bit() {
    let expected = uninterrupted(&[]);
    let moments = [
        "MidStep 1",
        "MidStep 4",
        "MidStep 9",
        "MidStep 12",
        "BeforeMetrics 1",
        "BeforeMetrics 6",
        "BeforeMetrics 11",
        "DuringEvaluation 1",
        "DuringEvaluation 3",
        "DuringEvaluation 8",
        "BeforeCheckpoint 1",
        "BeforeCheckpoint 2",
        "BeforeCheckpoint 6",
        "BetweenBestAndLast 2",
        "BetweenBestAndLast 5",
        "MidCheckpointWrite 1",
        "MidCheckpointWrite 4",
        "AfterCheckpoint 1",
        "AfterCheckpoint 2",
        "AfterCheckpoint 10",
    ];
    assert_eq!(moments.len(), 20);
    for die_at in moments {
        check_killed_at(die_at, &expected);
    }
}

#[test]
fn a_run_killed_again_and_again_wherever_it_is_comes_to_the_same_end() {
    let expected = uninterrupted(&[]);
    let folder = tempfile::tempdir().unwrap();
    // Each process is killed from outside, some time after it has reported so many events; the last
    // ones may have finished before.
    for events in [3, 5, 4, 7, 6, 9] {
        let mut child = start(folder.path(), "Never 1");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = lines.map_while(Result::ok).filter(|line| line.contains("event"));
        let _ = heard.take(events).count();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    finish_and_compare(folder.path(), "killed from outside", &expected);
}

#[test]
fn a_run_that_is_asked_to_stop_saves_and_goes_on_to_the_bit() {
    let expected = uninterrupted(&[]);
    let folder = tempfile::tempdir().unwrap();
    for (during_evaluation, after) in [(false, 1), (true, 1), (false, 4), (true, 2)] {
        let (stop, mut counted) = (AtomicBool::new(false), 0);
        let mut on_event = |event: &Event| {
            counted += u32::from(match during_evaluation {
                false => matches!(event, Event::Step(_)),
                true => matches!(event, Event::Evaluating { .. }),
            });
            if counted == after {
                stop.store(true, Ordering::Relaxed);
            }
        };
        let watch = Watch { on_event: Some(&mut on_event), stop: Some(&stop), on_moment: None };
        let end = tiny::run(folder.path(), &tiny::recipe(&[]), tiny::executor(), watch);
        assert_eq!(end.unwrap().ending, Ending::Interrupted);
    }
    finish_and_compare(folder.path(), "asked to stop", &expected);
}

/// Stops a run after so many steps of this process.
pub(crate) fn stop_after(run: &Path, changes: &[&str], steps: u32) {
    let (stop, mut counted) = (AtomicBool::new(false), 0);
    let mut on_event = |event: &Event| {
        counted += u32::from(matches!(event, Event::Step(_)));
        if counted == steps {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let watch = Watch { on_event: Some(&mut on_event), stop: Some(&stop), on_moment: None };
    let end = tiny::run(run, &tiny::recipe(changes), tiny::executor(), watch);
    assert_eq!(end.unwrap().ending, Ending::Interrupted);
}

#[test]
fn a_run_on_mixed_pictures_that_stops_within_an_epoch_goes_on_to_the_bit() {
    let mixed = ["augment.mixup=0.4", "augment.cutmix=1.0", "loss.label_smoothing=0.1"];
    let expected = uninterrupted(&mixed);
    assert_ne!(expected.metrics, uninterrupted(&[]).metrics);
    let folder = tempfile::tempdir().unwrap();
    // Epochs have three steps: within the first, and within the third.
    stop_after(folder.path(), &mixed, 2);
    stop_after(folder.path(), &mixed, 5);
    finish_and_compare(folder.path(), "mixed", &expected);
}

#[test]
fn a_run_of_growing_pictures_goes_on_to_the_bit_within_and_after_each_size() {
    // Epochs 1 and 2 have one size, 3 and 4 the other.
    let growing = ["augment.progressive=[4, 8]"];
    let expected = uninterrupted(&growing);
    assert_ne!(expected.metrics, uninterrupted(&[]).metrics);
    for steps in [2, 4, 6, 8] {
        let folder = tempfile::tempdir().unwrap();
        stop_after(folder.path(), &growing, steps);
        finish_and_compare(folder.path(), "growing", &expected);
    }
}

#[test]
fn a_run_of_binary_cross_entropy_goes_on_to_the_bit() {
    let changes = ["loss.kind=bce", "loss.label_smoothing=0.1", "augment.mixup=0.4"];
    let expected = uninterrupted(&changes);
    let folder = tempfile::tempdir().unwrap();
    stop_after(folder.path(), &changes, 4);
    finish_and_compare(folder.path(), "binary", &expected);
}

#[test]
fn limits_stop_a_run_that_then_goes_on_to_the_bit() {
    let expected = uninterrupted(&[]);
    let folder = tempfile::tempdir().unwrap();
    let limited = tiny::recipe(&["train.max_steps=5"]);
    let end = tiny::run(folder.path(), &limited, tiny::executor(), Watch::default()).unwrap();
    assert_eq!((end.ending, end.step), (Ending::MaxSteps, 5));
    assert!(end.final_top1.is_some());
    let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert!(text.lines().last().unwrap().contains("\"event\":\"evaluation\""), "{text}");
    let lifted = resnet_train::recipe::Assignment::parse("train.max_steps=").unwrap();
    RunFolder::resume(folder.path(), &[lifted]).unwrap();
    finish_and_compare(folder.path(), "limit of steps", &expected);
}
