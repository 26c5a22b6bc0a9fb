//! Checkpoints of a tiny session: whole or absent, exact, strict.

use std::fs;

use vjepac::ir::graph::SlotId;

use super::*;
use crate::device::fake;

fn state(step: u64) -> State {
    State { version: format::VERSION, step, seed: 5, batch: 2 }
}

#[test]
fn what_is_saved_is_loaded_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut session = fake::session(fake::program(2, 4));
    session.set_slot(SlotId(0), &[0.1, f32::MIN_POSITIVE, -3.25e-9]);
    session.set_slot(SlotId(3), &[1e30, 2.0, 3.0]);
    let place = save(dir.path(), &session, &state(20), 3).unwrap();
    assert!(place.ends_with("00000020"));

    let mut other = fake::session(fake::program(2, 4));
    assert_eq!(load(&place, &mut other).unwrap(), state(20));
    for id in 0..4 {
        assert_eq!(other.slot(SlotId(id)), session.slot(SlotId(id)));
    }
    let keys: Vec<String> = read_tensors(&place.join(format::MODEL)).unwrap().into_iter().map(|t| t.key).collect();
    assert_eq!(keys, ["encoder.pos", "encoder.weight", "target.weight"]);
}

#[test]
fn without_its_mark_a_checkpoint_does_not_exist() {
    let dir = tempfile::tempdir().unwrap();
    let session = fake::session(fake::program(2, 4));
    let first = save(dir.path(), &session, &state(1), 3).unwrap();
    let second = save(dir.path(), &session, &state(2), 3).unwrap();
    assert_eq!(newest(dir.path()).unwrap(), Some(second.clone()));
    fs::remove_file(second.join(format::DONE)).unwrap();
    fs::create_dir(dir.path().join(".00000009.partial")).unwrap();
    assert_eq!(newest(dir.path()).unwrap(), Some(first));
    sweep_up(dir.path()).unwrap();
    assert!(!dir.path().join(".00000009.partial").exists());
}

#[test]
fn a_save_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("file");
    fs::write(&place, "in the way").unwrap();
    let session = fake::session(fake::program(2, 4));
    let error = save(&place, &session, &state(1), 3).unwrap_err();
    assert!(error.to_string().starts_with("cannot create"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let session = fake::session(fake::program(2, 4));
    for step in 1..=4 {
        save(dir.path(), &session, &state(step), 2).unwrap();
    }
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["00000003", "00000004"]);
}

#[test]
fn a_file_cut_short_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut session = fake::session(fake::program(2, 4));
    let place = save(dir.path(), &session, &state(1), 2).unwrap();
    let model = place.join(format::MODEL);
    let bytes = fs::read(&model).unwrap();
    fs::write(&model, &bytes[..bytes.len() - 5]).unwrap();
    let error = load(&place, &mut session).unwrap_err().to_string();
    assert!(error.contains("is no complete safetensors file"), "{error}");
    assert!(error.contains(&format!("remove `{}`", place.display())), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_listed_together() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.safetensors");
    let data = [1.0f32, 2.0, 3.0];
    let tensor = |shape| tensors::Tensor { shape, data: &data };
    tensors::write_tensors(
        &file,
        [("net.weight", tensor(&[1, 3])), ("net.pos", tensor(&[3])), ("other", tensor(&[3]))],
    )
    .unwrap();
    let mut session = fake::session(fake::program(2, 4));
    let from = |text: &str| WeightsFrom { file: file.clone(), ..text.parse().unwrap() };
    assert_eq!(load_weights(&mut session, &from("encoder=x:net.")).unwrap(), [SlotId(0)]);
    assert_eq!(session.slot(SlotId(0)), data);

    let error = load_weights(&mut session, &from("target=x:net.")).unwrap_err().to_string();
    assert!(error.contains("`net.pos` of the file has no place in `target`"), "{error}");
    let error = load_weights(&mut session, &from("encoder=x")).unwrap_err().to_string();
    assert!(error.contains("`encoder.weight` is not in the file"), "{error}");
    let error = load_weights(&mut session, &from("encodr=x")).unwrap_err();
    assert_eq!(error.status(), 2);
}
