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
    let answer = session.run("info --verify r/checkpoints/last.safetensors");
    let expected = "r/checkpoints/last.safetensors: 156 tensors, as they were written\n";
    assert_eq!((answer.status, answer.stdout.as_str()), (Some(0), expected));
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
fn recomputing_changes_no_bit_of_a_run() {
    let session = Session::new();
    for (run, flag) in [("kept", ""), ("again", "--recompute")] {
        let answer = session.run(&format!("train {TINY} --run {run} --epochs 2 --quiet {flag}"));
        assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    }
    assert!(last(&session, "again") == last(&session, "kept"));
    assert_eq!(metrics(&session, "again"), metrics(&session, "kept"));
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
    insta::assert_snapshot!(answer.transcript());
    assert!(last(&session, "r") == before, "the old checkpoint survives");
    assert_eq!(session.run("train --resume r --max-steps 4 --quiet").status, Some(0));
}

#[test]
fn ctrl_c_ends_a_run_in_good_order() {
    let session = Session::new();
    // Long enough that the signal always arrives before its end.
    let mut child = session
        .command(&format!("train {TINY} --run r --epochs 100000"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    stderr.find(|line| line.starts_with("epoch 2:")).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let said: Vec<String> = stderr.filter(|line| !line.starts_with("epoch ")).collect();
    let answer = session.answer(child.wait_with_output().unwrap());
    assert_eq!(answer.status, Some(130));
    // How far it came depends on the machine.
    let came: Vec<&str> = answer
        .stdout
        .split_whitespace()
        .map(|word| if word.starts_with(|c: char| c.is_ascii_digit()) { "N" } else { word })
        .collect();
    insta::assert_snapshot!(format!("{}\n--- stderr\n{}", came.join(" "), said.join("\n")));
    let answer = session.run("train --resume r --max-steps 1");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stderr.contains("run: r (resumed after step "), "{}", answer.stderr);
}

#[test]
fn a_run_says_what_it_reached_and_what_to_type_next() {
    let session = Session::new();
    // Times differ from run to run, results from machine to machine.
    let steady = |text: &str| {
        let keep = |line: &&str| !line.starts_with("epoch ") && !line.starts_with("model: ");
        let is_fraction =
            |word: &str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
        let word = |word: &str| if is_fraction(word) { "N" } else { word }.to_string();
        let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        text.lines().filter(keep).map(line).collect::<Vec<_>>().join("\n")
    };
    let mut said = String::new();
    for line in [
        &format!("train {TINY} --run r --epochs 2 --max-steps 4"),
        "train --resume r",
        "train --resume r --max-steps 0",
        "train --resume r",
        "train --resume r --epochs 3",
    ] {
        let answer = session.run(line);
        said += &format!("$ resnet {line}\n{}\n\n", steady(&answer.transcript()));
    }
    insta::assert_snapshot!(said);
    let answer =
        session.run("train --data generated:classes=3,images=96,size=16 --run s --max-time 1ms");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.starts_with("stopped at the limit of time after 0 epochs, "));
    assert!(
        answer.stderr.ends_with("next: resnet train --resume s --max-time 0s\n"),
        "{}",
        answer.stderr
    );
}

#[test]
fn classify_prints_labels_with_probabilities_and_bars() {
    let session = Session::new();
    let line = "train --data generated:classes=3,images=96,size=16 --run r --max-steps 1 --quiet";
    assert_eq!(session.run(line).status, Some(0));
    session.write("colours.jpg", include_bytes!("../fixtures/colours.jpg"));
    let line = "classify --weights r/checkpoints/last.safetensors --resize 16 colours.jpg";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0));
    // The model's own pictures came as they are.
    let note = "note: pictures are not prepared as the model's own were: RGB,";
    assert!(answer.stderr.starts_with(note) && answer.stderr.lines().count() == 1);
    let lines: Vec<&str> = answer.stdout.lines().collect();
    let [path, classes @ ..] = &lines[..] else { panic!("{}", answer.stdout) };
    assert_eq!((*path, classes.len()), ("colours.jpg", 3));
    let json = session.run(&format!("{line} --json"));
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let predictions = found["predictions"].as_array().unwrap();
    assert_eq!((found["path"].as_str(), predictions.len()), (Some("colours.jpg"), 3));
    let mut total = 0.0;
    for (line, prediction) in classes.iter().zip(predictions) {
        let mut keys: Vec<&String> = prediction.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["index", "label", "probability"]);
        let probability = prediction["probability"].as_f64().unwrap();
        total += probability;
        let bar = "█".repeat((30.0 * probability).round() as usize);
        let label = prediction["label"].as_str().unwrap();
        let expected = format!("  {label:<6}  {:>5.1} %  {bar}", 100.0 * probability);
        assert_eq!(*line, expected);
    }
    assert!((total - 1.0).abs() < 1e-6, "{total}");
}

#[test]
fn evaluation_has_the_documented_keys() {
    let session = Session::new();
    let line = "train --data generated:classes=3,images=96,size=16 --run r --max-steps 1 --quiet";
    assert_eq!(session.run(line).status, Some(0));
    let data = "--data generated:classes=3,images=96,size=16";
    let line = format!("eval --weights r/checkpoints/last.safetensors {data}");
    let answer = session.run(&format!("{line} --json"));
    let found: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
    let mut keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["correct", "images", "loss", "seconds", "skipped", "top1", "top5"]);
    let (images, correct) = (found["images"].as_f64().unwrap(), found["correct"].as_f64().unwrap());
    assert_eq!((images, found["top1"].as_f64().unwrap()), (19.0, correct / images));
    let text = session.run(&line).stdout;
    assert!(text.contains(&format!("({correct} of 19), top-5 100.00 %")), "{text}");
}

#[test]
fn colours_are_for_terminals_only() {
    let session = Session::new();
    for line in ["info cifar-resnet8", "info restnet50", "train --help"] {
        let answer = session.run(line);
        assert!(!answer.stdout.contains('\u{1b}') && !answer.stderr.contains('\u{1b}'), "{line}");
    }
    // Forced, they are there without a terminal; NO_COLOR has the last word.
    let mut forced = session.command("info cifar-resnet8");
    let answer = session.answer(forced.env("CLICOLOR_FORCE", "1").output().unwrap());
    assert!(answer.stdout.contains("\u{1b}[1m"), "{}", answer.stdout);
    let answer = session.answer(forced.env("NO_COLOR", "1").output().unwrap());
    assert!(!answer.stdout.contains('\u{1b}'), "{}", answer.stdout);
}

#[test]
fn a_run_is_not_begun_over_another() {
    let session = Session::new();
    let line = format!("train {TINY} --run r --max-steps 1 --quiet");
    assert_eq!(session.run(&line).status, Some(0));
    insta::assert_snapshot!(session.run(&line).transcript());
}
