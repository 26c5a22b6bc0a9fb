//! `vjepa-run bench`: the numbers it promises, and the trace of a step.

use serde_json::Value;
use vjepa_tests::{scratch, shrunk_tiny, vjepa_run};

#[test]
fn a_step_is_measured_and_traced() {
    let dir = scratch();
    let (program, trace) = (shrunk_tiny(dir.path()), dir.path().join("trace.json"));
    let line = format!("bench {} --steps 2 --threads 2 --json --trace {}", program.display(), trace.display());
    let found: Value = serde_json::from_str(&vjepa_run(&line).succeeded().stdout).unwrap();
    for key in [
        "seconds_a_step",
        "clips_a_second",
        "peak_bytes",
        "batch",
        "threads",
        "flops_a_step",
        "peak_flops_a_second",
        "peak_share",
        "products_share",
        "attention_share",
        "outside_products",
    ] {
        assert!(found[key].as_f64().is_some_and(|n| n > 0.0), "`{key}` is {} in {found:#}", found[key]);
    }
    assert!(found["outside_products"].as_f64() < Some(1.0), "{found:#}");
    if std::path::Path::new("/proc/self/status").exists() {
        assert!(found["resident_peak_bytes"].as_u64() > Some(0), "{found:#}");
    }

    let events: Vec<Value> = serde_json::from_slice(&std::fs::read(&trace).unwrap()).unwrap();
    let ops = found["by_op"].as_object().unwrap();
    assert!(ops.keys().all(|op| events.iter().any(|e| e["name"] == op.as_str())), "ops that were not traced");
    let mut end = 0.0;
    for event in &events {
        let (ts, dur) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        // Times are rounded to nanoseconds.
        assert!(event["ph"] == "X" && ts >= end - 0.002, "events overlap: {event} begins before {end}");
        end = ts + dur;
    }
    assert_eq!(events[0]["cat"], "grads");
    assert_eq!(events.last().unwrap()["cat"], "update");
    let attention = events.iter().find(|e| e["name"] == "attention").expect("a step has attention");
    let place = attention["args"]["place"].as_str().unwrap();
    assert!(place.contains("blocks"), "{place}");
    assert!(attention["args"]["outputs"][0].as_str().unwrap().starts_with("f32 "), "{attention}");
}

#[test]
fn a_trace_that_cannot_be_made_is_told_before_the_step() {
    let dir = scratch();
    let program = shrunk_tiny(dir.path());
    let line = |more: &str| format!("bench {} --steps 1 {more}", program.display());
    vjepa_run(&line("--trace nowhere/trace.json")).failed(1, &["cannot write `nowhere/trace.json`"]);
    vjepa_run(&line("--trace trace.json --backend reference")).failed(1, &["a trace needs `--backend cpu`"]);
    assert!(!vjepa_tests::root().join("trace.json").exists());
}
