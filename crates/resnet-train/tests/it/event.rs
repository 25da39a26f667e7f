//! Events: their JSON is a contract, their lines are for people.

use resnet_train::event::{End, Ending, Epoch, Evaluation, Event, Start, Step, Validation};

fn one_class() -> Validation {
    Validation { loss: Some(1.0), top1: Some(0.75), top5: Some(1.0), ..Validation::default() }
}

fn events() -> Vec<Event> {
    vec![
        Event::Start(Start {
            run: "runs/a".into(),
            params: 269_722,
            steps: 80,
            seed: 7,
            model: "resnet20".into(),
            weights: "fresh, by seed 7".into(),
            epochs: 2,
            batch_size: 128,
            steps_per_epoch: 40,
            train_images: 5000,
            val_images: 1000,
            classes: 10,
            lr: 0.1,
            resumed_step: 40,
            isa: "avx2".into(),
            memory_bytes: 1_234_000_000,
        }),
        Event::Notice("something".into()),
        Event::Step(Step {
            step: 41,
            epoch: 2,
            loss: 1.5,
            top1: Some(0.5),
            f1_micro: None,
            lr: 0.05,
            grad_norm: Some(2.0),
            seconds: 10.5,
            images_per_second: 1000.0,
            wait_fraction: 0.05,
        }),
        Event::Evaluating { images: 500, total: 1000 },
        Event::Epoch(Epoch {
            epoch: 2,
            step: 80,
            train_loss: 1.25,
            train_top1: Some(0.625),
            train_f1_micro: None,
            val: one_class(),
            replaced: 0,
            skipped: Some(0),
            best: true,
            images_per_second: 1000.0,
            wait_fraction: 0.25,
            seconds: 6.0,
        }),
        Event::Evaluation(Evaluation { step: 41, val: one_class(), seconds: 1.0 }),
        Event::Checkpoint { path: "runs/a/checkpoints/last.safetensors".into(), step: 80 },
        Event::End(End {
            ending: Ending::Finished,
            best_top1: Some(0.75),
            final_top1: Some(0.75),
            best_map: None,
            final_map: None,
            run: "runs/a".into(),
            step: 80,
            epoch: 2,
            seconds: 12.0,
        }),
    ]
}

#[test]
fn the_json_of_events_keeps_its_keys() {
    let json = |event: &Event| event.to_json().map(|json| format!("{json}\n"));
    let lines = events().iter().filter_map(json).collect::<String>();
    insta::assert_snapshot!(lines, @r#"
{"batch_size":128,"classes":10,"epochs":2,"event":"start","isa":"avx2","lr":0.1,"model":"resnet20","params":269722,"resumed_step":40,"run":"runs/a","seed":7,"steps":80,"steps_per_epoch":40,"train_images":5000,"val_images":1000,"weights":"fresh, by seed 7"}
{"event":"notice","message":"something"}
{"epoch":2,"event":"step","grad_norm":2.0,"images_per_second":1000.0,"loss":1.5,"lr":0.05,"seconds":10.5,"step":41,"top1":0.5,"wait_fraction":0.05}
{"best":true,"epoch":2,"event":"epoch","images_per_second":1000.0,"replaced":0,"seconds":6.0,"skipped":0,"step":80,"train_loss":1.25,"train_top1":0.625,"val_loss":1.0,"val_top1":0.75,"val_top5":1.0,"wait_fraction":0.25}
{"event":"evaluation","seconds":1.0,"step":41,"val_loss":1.0,"val_top1":0.75,"val_top5":1.0}
{"event":"checkpoint","path":"runs/a/checkpoints/last.safetensors","step":80}
{"best_top1":0.75,"ending":"finished","epoch":2,"event":"end","final_top1":0.75,"run":"runs/a","seconds":12.0,"step":80}
"#);
}

#[test]
fn events_are_plain_lines() {
    let lines = events().iter().map(|event| format!("{event}\n")).collect::<String>();
    insta::assert_snapshot!(lines, @r#"
weights: fresh, by seed 7
model: resnet20, 269722 parameters, 10 classes; computing with avx2, 1.23 GB of memory
data: 5000 images to train on, 1000 to evaluate
plan: 2 epochs of 40 steps of 128 images (80 steps in all), learning rate up to 0.1, seed 7
run: runs/a (resumed after step 40)
note: something
step 41 (epoch 2): loss 1.5000, top-1 50.0 %, lr 0.05000, 1000 images/s, 5 % waiting for data
evaluating: 500 of 1000
epoch 2: train loss 1.2500, top-1 62.50 %; val loss 1.0000, top-1 75.00 % (best); 1000 images/s, 25 % waiting for data, 6.0 s (hint: more data.workers, or smaller pictures: `resnet data pack --resize`)
step 41: val loss 1.0000, top-1 75.00 %
step 80: saved runs/a/checkpoints/last.safetensors
finished after 2 epochs, 80 steps, 12.0 s; top-1 75.00 %, best 75.00 %
"#);
}
