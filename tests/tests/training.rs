//! Training end to end on the example clips: exact resume, same bits for any number of threads, what a run leaves behind.

use std::path::Path;

use vjepa_tests::{scratch, shrunk_tiny, vjepa_run};

fn train(program: &Path, out: &Path, more: &str) {
    let line = format!("train {} --data examples/clips --out {} {more}", program.display(), out.display());
    vjepa_run(&line).succeeded();
}

fn checkpoint(out: &Path, step: usize) -> (Vec<u8>, Vec<u8>) {
    let dir = out.join(format!("checkpoints/{step:08}"));
    assert!(dir.join("DONE").exists(), "no complete checkpoint in {}", dir.display());
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    (read("model.safetensors"), read("optimizer.safetensors"))
}

#[test]
fn twenty_steps_and_twenty_more_are_forty() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    train(&program, &whole, "--steps 40");
    train(&program, &parts, "--steps 20");
    train(&program, &parts, "--steps 40");
    assert!(checkpoint(&whole, 40) == checkpoint(&parts, 40), "the continued run has other bits");
    let losses = |out: &Path| -> Vec<String> {
        let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                format!("{} {}", line["step"], line["loss"])
            })
            .collect()
    };
    assert_eq!(losses(&whole).len(), 40);
    assert_eq!(losses(&whole), losses(&parts));
}

#[test]
fn the_number_of_threads_and_workers_does_not_change_a_bit() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let after = |threads: usize, workers: usize| {
        let out = dir.path().join(format!("threads{threads}"));
        train(&program, &out, &format!("--steps 5 --threads {threads} --workers {workers}"));
        checkpoint(&out, 5)
    };
    let one = after(1, 1);
    assert!(one == after(2, 3), "two threads give other bits than one");
    assert!(one == after(4, 2), "four threads give other bits than one");
}

#[test]
fn a_run_directory_holds_what_it_promises() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let out = dir.path().join("run");
    train(&program, &out, &format!("--steps 2 --trace {}", out.join("trace.json").display()));
    let trace: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(out.join("trace.json")).unwrap()).unwrap();
    assert!(trace.iter().any(|event| event["name"] == "attention_grad"), "a step without attention was traced");
    for name in ["program.vjc", "resolved.vjepa", "metrics.jsonl", "log.txt", "checkpoints/00000002/state.json"] {
        assert!(out.join(name).exists(), "{name} is missing");
    }
    assert!(std::fs::read(&program).unwrap() == std::fs::read(out.join("program.vjc")).unwrap());
    let line = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().next().unwrap().to_string();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for key in [
        "step",
        "loss",
        "lr",
        "weight_decay",
        "ema",
        "grad_norm",
        "context_share",
        "target_share",
        "clips_a_second",
        "data_wait_seconds",
    ] {
        assert!(!line[key].is_null(), "`{key}` is missing in {line}");
    }
}

#[test]
fn the_checkpoint_has_the_published_keys() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let out = dir.path().join("run");
    train(&program, &out, "--steps 1");
    let (model, _) = checkpoint(&out, 1);
    let tensors = safetensors::SafeTensors::deserialize(&model).unwrap();
    for key in [
        "encoder.blocks.0.attn.qkv.weight",
        "encoder.pos_embed",
        "target_encoder.norm.bias",
        "predictor.mask_tokens.1",
        "predictor.predictor_proj.bias",
    ] {
        assert!(tensors.tensor(key).is_ok(), "no `{key}` among {:?}", tensors.names());
    }
}
