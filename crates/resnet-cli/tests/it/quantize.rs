//! `resnet quantize`: what it refuses, what it writes, and that other commands take that.

use serde_json::Value;

use crate::session::Session;

const DATA: &str = "generated:classes=3,images=300,size=16";

/// A session with a trained model in `r`.
fn trained() -> Session {
    let session = Session::new();
    let line = format!("train --data {DATA} --model cifar-resnet8 --epochs 3 --run r --quiet");
    let answer = session.run(&line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    session
}

fn object(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap()
}

#[test]
fn a_model_on_bytes_is_smaller_and_taken_by_the_other_commands() {
    let session = trained();
    let weights = "r/checkpoints/best.safetensors";
    // Whether a network of a moment gains speed is the machine's to say.
    let answer = session.run(&format!(
        "quantize --weights {weights} --calibrate {DATA} --images 64 --force --out q.safetensors --json"
    ));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let report = object(&answer.stdout);
    assert_eq!(report["written"], true);
    assert!(0.9 <= report["agreement"].as_f64().unwrap(), "{report}");
    let size = |name: &str| std::fs::metadata(session.folder().join(name)).unwrap().len();
    assert!(2 * size("q.safetensors") < size(weights));

    let eval = session.run(&format!("eval --weights q.safetensors --data {DATA} --json"));
    assert_eq!(object(&eval.stdout)["top1"], report["int8"]["top1"], "{}", eval.stderr);
    let bench = session.run("bench --weights q.safetensors --batch-size 2 --seconds 0.1 --json");
    let timed = object(&bench.stdout);
    assert_eq!((&timed["precision"], &timed["deviation"]), (&"int8".into(), &0.0.into()));
    let again = session.run(&format!("quantize --weights q.safetensors --calibrate {DATA}"));
    assert_eq!(again.status, Some(2), "{}", again.stderr);
}

#[test]
fn a_model_that_lost_too_much_is_not_written() {
    let session = trained();
    // Half of all values clipped leaves nothing of most activations.
    let answer = session.run(&format!(
        "quantize --weights r/checkpoints/best.safetensors --calibrate {DATA} --images 64 \
         --method percentile --percentile 50 --out q.safetensors --json"
    ));
    let report = object(&answer.stdout);
    assert_eq!((answer.status, &report["written"]), (Some(1), &false.into()), "{}", answer.stderr);
    assert!(answer.stderr.contains("not written: top-1 falls by"), "{}", answer.stderr);
    assert!(!session.folder().join("q.safetensors").exists());
}

#[test]
fn a_precision_that_a_command_does_not_have_is_refused() {
    for (line, why) in [
        ("eval --weights none.safetensors --precision int8", "is for `bench`"),
        (
            "quantize --weights none.safetensors --calibrate generated --precision bf16",
            "is for train",
        ),
        ("eval --weights none.safetensors --precision bf16 --exact", "exclude each other"),
        ("train --precision bf16 --exact", "exclude each other"),
        ("bench --kernels --precision bf16", "compares kernels in f32"),
        ("bench --mode train --precision int8", "is for inference"),
    ] {
        let answer = Session::new().run(line);
        assert_eq!(answer.status, Some(2), "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains(why), "{line}: {}", answer.stderr);
    }
}
