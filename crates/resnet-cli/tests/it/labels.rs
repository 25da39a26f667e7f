//! Pictures with several labels, from the list to the probabilities.

use serde_json::Value;

use crate::pictures::noise;
use crate::session::Session;

/// Twelve small pictures with none, one or both of two labels.
fn list(session: &Session) {
    let mut list = "path,labels,split\n".to_string();
    for i in 0..12 {
        session.write(&format!("{i}.bmp"), noise(20 + i, 20, 1 + i % 4));
        let labels = ["", "fine", "dark", "dark|fine"][i as usize % 4];
        let part = if i < 8 { "train" } else { "val" };
        list += &format!("{i}.bmp,{labels},{part}\n");
    }
    session.write("list.csv", list);
}

fn object(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_list_of_several_labels_trains_and_its_model_knows_it() {
    let session = Session::new();
    list(&session);
    let line = "train --data list.csv --model cifar-resnet8 --batch-size 4 --epochs 1 --run r";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let note = "note: list.csv: any number of 2 classes a picture, with '|' between them";
    assert!(answer.stderr.contains(note), "{}", answer.stderr);
    assert!(answer.stdout.contains("; mAP ") && !answer.stdout.contains("top-1"));
    let recipe = std::fs::read_to_string(session.folder().join("r/recipe.toml")).unwrap();
    assert!(recipe.contains("kind = \"bce\""), "{recipe}");

    let eval = "eval --weights r/checkpoints/last.safetensors --data list.csv";
    let found = object(&session.run(&format!("{eval} --json")).stdout);
    let keys: Vec<&String> = found.as_object().unwrap().keys().collect();
    let expected = ["f1_macro", "f1_micro", "images", "loss", "map", "seconds", "skipped"];
    assert_eq!(keys, expected);
    assert_eq!(found["images"], 4);
    let answer = session.run(eval);
    assert!(answer.stdout.starts_with("mAP "), "{}", answer.stdout);

    let line = "classify --weights r/checkpoints/last.safetensors 3.bmp --json";
    let found = object(&session.run(line).stdout);
    let predictions = found["predictions"].as_array().unwrap();
    let mut labels: Vec<&str> = predictions.iter().map(|p| p["label"].as_str().unwrap()).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["dark", "fine"]);
    // Each by itself: they need not sum to one.
    let sum: f64 = predictions.iter().map(|p| p["probability"].as_f64().unwrap()).sum();
    assert!(1e-9 < (sum - 1.0).abs(), "{found}");
}

#[test]
fn a_model_that_names_one_class_is_not_measured_on_several_labels() {
    let session = Session::new();
    list(&session);
    let pictures = "--data generated:classes=2,images=8,size=20";
    let line = format!("train {pictures} --model cifar-resnet8 --batch-size 4 --epochs 1 --run r");
    assert_eq!(session.run(&line).status, Some(0));
    let answer = session.run("eval --weights r/checkpoints/last.safetensors --data list.csv");
    let expected = "error: a model that names one class a picture needs pictures of one class each, \
                    and these may have several\nhint: leave it out, or give a list with a column \
                    `label` of one class each\n";
    assert_eq!(answer.status, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.ends_with(expected), "{}", answer.stderr);
}

#[test]
fn data_commands_count_each_label() {
    let session = Session::new();
    list(&session);
    let answer = session.run("data stats --data list.csv");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let expected = "          4 dark\n          4 fine\n  1.00 classes a picture; 2 without one\n";
    assert!(answer.stdout.contains(expected), "{}", answer.stdout);
    let stats =
        object(session.run("data stats --data list.csv --json").stdout.lines().next().unwrap());
    assert_eq!(stats["without_class"], 2);
    assert_eq!(stats["classes"][1]["images"], 4);
    let answer = session.run("data check --data list.csv");
    assert_eq!(answer.status, Some(0), "{}\n{}", answer.stdout, answer.stderr);
    let answer = session.run("data preview --data list.csv --set train.batch_size=4 --images 8");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let answer = session.run("data pack --data list.csv --out packed");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let answer = session.run("data stats --data packed");
    assert!(answer.stdout.contains(expected), "{}", answer.stdout);
}
