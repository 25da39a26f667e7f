//! Pictures of one's own, of every size: they train, and what was trained classifies others.

use crate::session::Session;

/// A picture of noise: fine for one class, coarse for the other.
pub(crate) fn noise(width: u32, height: u32, grain: u32) -> Vec<u8> {
    let row = (3 * width).next_multiple_of(4);
    let size = 54 + row * height;
    let mut bytes = b"BM".to_vec();
    for field in [size, 0, 54, 40, width, height, 1 | 24 << 16, 0, row * height, 0, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for y in 0..height {
        for x in 0..row {
            let cell = (y / grain) * 977 + x / 3 / grain + width;
            bytes.push((cell.wrapping_mul(2_654_435_761) >> 24) as u8);
        }
    }
    bytes
}

/// Ten pictures in each of two classes, all of different sizes from `side` on.
fn folder_of(session: &Session, side: u32) {
    for i in 0..10 {
        let (width, height) = (side + 3 * i, side + 25 - 2 * i);
        session.write(&format!("pictures/fine/{i}.bmp"), noise(width, height, 1));
        session.write(&format!("pictures/coarse/{i}.bmp"), noise(height, width, 4));
    }
}

/// Trains for a step and looks at what was made of the recipe.
fn trained(session: &Session, more: &str) -> String {
    let line = format!(
        "train --data pictures --val-fraction 0.2 --run r --batch-size 4 --max-steps 1 {more}"
    );
    let answer = session.run(&line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stderr.contains("data: 16 images to train on, 4 to evaluate"));
    let line = "classify --weights r/checkpoints/last.safetensors pictures/fine/3.bmp --json";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stdout.contains("\"label\":\"coarse\""), "{}", answer.stdout);
    std::fs::read_to_string(session.folder().join("r/recipe.toml")).unwrap()
}

#[test]
fn large_pictures_of_any_size_train_on_random_parts() {
    let session = Session::new();
    folder_of(&session, 70);
    // 96 in place of 224 pixels, to be quick.
    let recipe = trained(&session, "--set eval.crop=96");
    let steps: toml::Table = toml::from_str(&recipe).unwrap();
    let steps = steps["augment"]["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["random_resized_crop", "flip"]);
    assert_eq!(steps[0]["size"].as_integer(), Some(96));
    assert!(recipe.contains("name = \"resnet18\""), "{recipe}");
    let answer = session.run("train --resume r --max-steps 2 --quiet");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
}

#[test]
fn small_pictures_of_any_size_are_scaled_to_the_first_ones() {
    let session = Session::new();
    folder_of(&session, 20);
    let recipe = trained(&session, "");
    assert!(recipe.contains("name = \"resnet20\""), "{recipe}");
    assert!(!recipe.contains("random_resized_crop"), "{recipe}");
}

#[test]
fn generated_pictures_may_have_any_size() {
    let session = Session::new();
    let line = "train --data generated:classes=2,images=8,size=80 --set eval.crop=64 --run r \
                --batch-size 4 --max-steps 1 --quiet";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
}

#[test]
fn greyscale_pictures_train_and_the_model_knows_that_it_sees_no_colours() {
    let session = Session::new();
    folder_of(&session, 20);
    let recipe = trained(&session, "--in-channels 1 --size 24");
    assert!(recipe.contains("in_channels = 1"), "{recipe}");
    let weights = "--weights r/checkpoints/last.safetensors";
    let answer = session.run(&format!("eval {weights} --data pictures --json"));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    assert!(answer.stderr.contains("pictures: greyscale, EXIF orientation applied, resize 24 (bilinear, antialiased), crop 24x24"), "{}", answer.stderr);
    assert!(answer.stdout.contains("\"images\":20"), "{}", answer.stdout);
    // The same picture without its colours gives the same answer to the last digit.
    let coloured = noise(26, 31, 3);
    let mut grey = coloured.clone();
    let row = (3 * 26usize).next_multiple_of(4);
    for row in grey[54..].chunks_exact_mut(row) {
        for bgr in row[..3 * 26].as_chunks_mut::<3>().0 {
            let [b, g, r] = bgr.map(u32::from);
            *bgr = [((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8; 3];
        }
    }
    let predictions = |bytes: Vec<u8>| {
        session.write("one.bmp", bytes);
        let answer = session.run(&format!("classify {weights} one.bmp --json"));
        assert_eq!(answer.status, Some(0), "{}", answer.stderr);
        answer.stdout
    };
    assert_eq!(predictions(coloured), predictions(grey));
    let answer = session.run("train --resume r --max-steps 2 --quiet");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
}

#[test]
fn training_may_see_smaller_pictures_than_evaluation() {
    let session = Session::new();
    folder_of(&session, 70);
    let recipe = trained(&session, "--size 64 --set eval.crop=96");
    let steps: toml::Table = toml::from_str(&recipe).unwrap();
    assert_eq!(steps["augment"]["size"].as_integer(), Some(64));
    assert_eq!(steps["eval"]["crop"].as_integer(), Some(96));
    let line = "eval --weights r/checkpoints/last.safetensors --data pictures --json";
    let answer = session.run(line);
    assert!(
        answer.stderr.contains("resize 110 (bilinear, antialiased), crop 96x96"),
        "{}",
        answer.stderr
    );
}
