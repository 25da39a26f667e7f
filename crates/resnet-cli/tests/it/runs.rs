//! Real runs: they learn, stop when asked, survive kills and full disks, and go on to the bit.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::session::Session;

const TINY: &str =
    "--data generated:classes=3,images=96,size=16 --batch-size 32 --set checkpoint.every_steps=1";

/// The metrics without what depends on time.
fn metrics(session: &Session, run: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(session.folder().join(run).join("metrics.jsonl")).unwrap();
    let parse = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        for key in ["seconds", "images_per_second", "wait_fraction"] {
            value.as_object_mut().unwrap().remove(key);
        }
        value
    };
    text.lines().map(parse).collect()
}

/// All tensors of a run's last checkpoint, as bytes.
fn last(session: &Session, run: &str) -> Vec<u8> {
    let path = session.folder().join(run).join("checkpoints/last.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header..].to_vec()
}

#[test]
fn training_prints_events_and_makes_a_model_that_scores_the_same() {
    let session = Session::new();
    let answer = session.run(&format!("train {TINY} --run r --epochs 2 --json"));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let events: Vec<serde_json::Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|e| e["event"] == kind).collect::<Vec<_>>();
    assert_eq!((of("start").len(), of("step").len(), of("epoch").len()), (1, 6, 2));
    let end = of("end")[0];
    assert_eq!(end["run"], "r");
    let data = "--data generated:classes=3,images=96,size=16";
    let line = format!("eval --weights r/checkpoints/last.safetensors {data} --json");
    let found: serde_json::Value = serde_json::from_str(&session.run(&line).stdout).unwrap();
    assert_eq!(found["top1"], end["final_top1"]);
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_been() {
    let session = Session::new();
    assert_eq!(
        session.run(&format!("train {TINY} --run whole --epochs 3 --quiet")).status,
        Some(0)
    );
    for steps in [1, 4, 7] {
        let mut child = session
            .command(&format!("train {TINY} --run killed{steps} --epochs 3 --json"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_step = |line: &String| line.contains("\"event\":\"step\"");
        let _ = lines.map(Result::unwrap).filter(is_step).nth(steps - 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let answer = session.run(&format!("train --resume killed{steps} --quiet"));
        assert_eq!(answer.status, Some(0), "{}", answer.stderr);
        assert!(last(&session, &format!("killed{steps}")) == last(&session, "whole"));
        assert_eq!(metrics(&session, &format!("killed{steps}")), metrics(&session, "whole"));
    }
}

#[test]
fn asked_to_stop_it_saves_and_can_go_on() {
    let session = Session::new();
    assert_eq!(
        session.run(&format!("train {TINY} --run whole --epochs 3 --quiet")).status,
        Some(0)
    );
    let mut child = session
        .command(&format!("train {TINY} --run stopped --epochs 3 --json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("\"event\":\"step\""));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    let status = child.wait().unwrap().code();
    // On a fast machine the run may be over before the signal arrives.
    if status == Some(130) {
        assert!(rest.last().unwrap().contains("interrupted"), "{rest:?}");
    }
    assert_eq!(session.run("train --resume stopped --quiet").status, Some(0));
    assert!(last(&session, "stopped") == last(&session, "whole"));
}

#[test]
fn a_full_disk_keeps_the_old_checkpoint() {
    let session = Session::new();
    let answer = session.run(&format!("train {TINY} --run r --max-steps 2 --quiet"));
    assert_eq!(answer.status, Some(0));
    let before = last(&session, "r");
    // 100 blocks of 512 bytes, or of 1024 in some shells: less than a checkpoint.
    let script = format!(
        "ulimit -f 100; exec {} train --resume r --max-steps 4 --quiet",
        env!("CARGO_BIN_EXE_resnet")
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(session.folder())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let answer = session.answer(output);
    assert_eq!(answer.status, Some(1), "{}", answer.stderr);
    assert!(answer.stderr.contains("last.safetensors"), "{}", answer.stderr);
    assert!(last(&session, "r") == before, "the old checkpoint survives");
    assert_eq!(session.run("train --resume r --max-steps 4 --quiet").status, Some(0));
}

#[test]
fn a_run_is_not_begun_over_another() {
    let session = Session::new();
    let line = format!("train {TINY} --run r --max-steps 1 --quiet");
    assert_eq!(session.run(&line).status, Some(0));
    insta::assert_snapshot!(session.run(&line).transcript());
}
