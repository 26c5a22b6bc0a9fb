//! `vjepac explain`: a model in numbers, or one of its parts.

use std::fmt::Write;

use serde_json::{Value, json};
use vjepac::build;
use vjepac::driver;
use vjepac::ir::graph::{InputSpec, VideoSpec};
use vjepac::ir::op::DType;
use vjepac::model::{Model, Weight, WeightKind};

use super::keys::kind;
use super::mask_statistics::{self, MaskStatistics, quantile};
use super::session::{Failure, Session, pretty, print};
use super::settings::{self, Setting};

/// Explains the model, or the part at `path`.
pub fn run(session: &mut Session, path: Option<&str>, draws: usize, json: bool) -> Result<(), Failure> {
    let model = session.checked()?;
    match path {
        Some(path) => part(session, &model, path, json),
        None => {
            whole(&model, draws, json);
            Ok(())
        }
    }
}

/// Weights of one top-level field and one kind.
struct Group {
    field: String,
    kind: &'static str,
    tensors: usize,
    numbers: usize,
}

fn groups(model: &Model) -> Vec<Group> {
    let mut groups: Vec<Group> = vec![];
    for weight in &model.weights {
        let field = field(model, weight);
        let kind = kind(weight);
        let numbers = weight.stored.iter().product::<usize>();
        match groups.iter_mut().find(|g| g.field == field && g.kind == kind) {
            Some(group) => {
                group.tensors += 1;
                group.numbers += numbers;
            }
            None => groups.push(Group { field, kind, tensors: 1, numbers }),
        }
    }
    groups
}

/// The top-level field that a weight belongs to.
fn field(model: &Model, weight: &Weight) -> String {
    match &weight.kind {
        WeightKind::Trained(network) => model.networks[*network].clone(),
        WeightKind::Average(_, average) => model.averages[*average].name.clone(),
        WeightKind::Frozen | WeightKind::Buffer => weight.key.split('.').next().unwrap_or("").to_owned(),
    }
}

fn whole(model: &Model, draws: usize, json: bool) {
    let groups = groups(model);
    let masks = if draws == 0 || model.masks.is_empty() {
        vec![]
    } else {
        mask_statistics::draw(model, &build::build(model, build::Options::default()), draws)
    };
    let unfused = driver::unfused(model);
    if json {
        print(&pretty(&whole_json(model, &groups, &masks, &unfused)));
    } else {
        print(&whole_text(model, &groups, &masks, draws));
        if !unfused.is_empty() {
            print(&format!("\nslow forms:\n  {}\n", unfused.join("\n  ")));
        }
    }
}

fn whole_text(model: &Model, groups: &[Group], masks: &[MaskStatistics], draws: usize) -> String {
    let mut out = format!("model {}\n", model.name);
    for source in &model.sources {
        let _ = writeln!(out, "  {:16} {}", source.name, show_source(&source.spec));
    }
    let trained: usize = groups.iter().filter(|g| g.kind == "trained").map(|g| g.numbers).sum();
    let _ = writeln!(out, "\nweights: {} trained", thousands(trained));
    for g in groups {
        let _ = writeln!(out, "  {:16} {:>14} {:8} in {} tensors", g.field, thousands(g.numbers), g.kind, g.tensors);
    }
    if let Some(first) = model.masks.first() {
        let tokens = model.bound(first.tokens);
        let _ = writeln!(out, "\ntokens of a clip: {}{}", thousands(tokens), factors(model, first.tokens));
    }
    if !masks.is_empty() {
        let group = model.train.group.unwrap_or(1);
        let _ = writeln!(out, "masks: {draws} trial clips, cut in groups of {group}; median, 99th percentile");
        for m in masks {
            let show = |counts: &[usize]| format!("{:>5} {:>5}", quantile(counts, 0.5), quantile(counts, 0.99));
            let redrawn =
                if m.redrawn > 0.0 { format!("   redrawn {:.1} %", 100.0 * m.redrawn) } else { String::new() };
            let _ = writeln!(out, "  {:16} context {}   target {}{redrawn}", m.name, show(&m.context), show(&m.target));
        }
    }
    let train = &model.train;
    let data: Vec<String> = train
        .data
        .iter()
        .map(|(name, share)| share.map_or(name.clone(), |s| format!("{name} {:.1} %", 100.0 * s)))
        .collect();
    let _ = writeln!(
        out,
        "\ntraining: {} steps of {} clips in {}, seed {}\n  data {}",
        thousands(train.steps),
        thousands(train.batch),
        precision(train.precision),
        train.seed,
        data.join(", ")
    );
    out
}

fn whole_json(model: &Model, groups: &[Group], masks: &[MaskStatistics], unfused: &[String]) -> Value {
    let group_json =
        |g: &Group| json!({ "field": g.field, "kind": g.kind, "tensors": g.tensors, "numbers": g.numbers });
    let counts = |c: &[usize]| json!({ "median": quantile(c, 0.5), "p99": quantile(c, 0.99) });
    let mask_json = |m: &MaskStatistics| json!({ "name": m.name, "context": counts(&m.context), "target": counts(&m.target), "redrawn": m.redrawn });
    json!({
        "model": model.name,
        "sources": model.sources.iter().map(|s| json!({ "name": s.name, "what": show_source(&s.spec) })).collect::<Vec<_>>(),
        "weights": groups.iter().map(group_json).collect::<Vec<_>>(),
        "tokens": model.masks.first().map(|m| model.bound(m.tokens)),
        "masks": masks.iter().map(mask_json).collect::<Vec<_>>(),
        "unfused": unfused,
        "train": {
            "steps": model.train.steps,
            "batch": model.train.batch,
            "group": model.train.group,
            "precision": precision(model.train.precision),
            "seed": model.train.seed,
            "data": model.train.data.iter().map(|d| &d.0).collect::<Vec<_>>(),
        },
    })
}

/// What is known about a path: settings at and below it, values that bear its name, weights below it.
fn part(session: &Session, model: &Model, path: &str, json: bool) -> Result<(), Failure> {
    let below = |name: &str| name == path || name.starts_with(path) && name[path.len()..].starts_with('.');
    let all = settings::of_model(&session.sources, session.file, &model.name, &session.overrides);
    let settings: Vec<Setting> = all.into_iter().filter(|s| below(&s.path)).collect();
    let weights: Vec<&Weight> = model.weights.iter().filter(|w| below(&w.key)).collect();
    let taps = model.taps.iter().filter(|t| t.name == path);
    let values: Vec<(String, String)> = taps
        .map(|tap| {
            let node = model.node(tap.node);
            let what = if tap.call { "call" } else { "value" };
            (what.to_owned(), model.show_axes(node.outer, &node.axes))
        })
        .collect();
    if settings.is_empty() && weights.is_empty() && values.is_empty() {
        let hint = "`vjepac settings` lists what can be set, `vjepac keys` the weights";
        return Err(Failure::Usage(format!("`{}` has no part called `{path}`; {hint}", model.name)));
    }
    if json {
        print(&pretty(&json!({
            "path": path,
            "settings": settings.iter().map(|s| settings::to_json(&session.sources, s)).collect::<Vec<_>>(),
            "values": values.iter().map(|(what, axes)| json!({ "what": what, "axes": axes })).collect::<Vec<_>>(),
            "weights": weights
                .iter()
                .map(|w| json!({ "key": w.key, "shape": w.stored, "kind": kind(w) }))
                .collect::<Vec<_>>(),
        })));
        return Ok(());
    }
    let mut out = settings::table(&session.sources, &settings);
    for (what, axes) in values {
        let _ = writeln!(out, "{what} {axes}");
    }
    if !weights.is_empty() {
        let numbers: usize = weights.iter().map(|w| w.stored.iter().product::<usize>()).sum();
        let _ = writeln!(out, "{} numbers in {} tensors:", thousands(numbers), weights.len());
    }
    for w in weights {
        let _ = writeln!(out, "  {} {:?} {}", w.key, w.stored, kind(w));
    }
    print(&out);
    Ok(())
}

fn show_source(spec: &InputSpec) -> String {
    let picture = |s: &VideoSpec| format!("{} x {} px", s.size, s.size);
    match spec {
        InputSpec::Video(s) => format!("video, {} frames, {}, {}", s.frames, s.pace, picture(s)),
        InputSpec::Image(s) => format!("image, {}", picture(s)),
        InputSpec::Label { classes } => format!("label, {classes} classes"),
    }
}

/// ` = (time: 8, rows: 14, cols: 14)` for a product axis.
fn factors(model: &Model, axis: vjepac::model::AxisId) -> String {
    let parts: Vec<String> =
        model.axis(axis).factors.iter().map(|f| format!("{}: {}", model.axis(*f).name, model.bound(*f))).collect();
    if parts.is_empty() { String::new() } else { format!(" = ({})", parts.join(", ")) }
}

fn precision(dtype: DType) -> &'static str {
    match dtype {
        DType::Bf16 => "bf16",
        DType::F64 | DType::F32 | DType::I32 | DType::Bool => "f32",
    }
}

/// `303,885,312`
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        assert_eq!([0, 999, 1000, 303_885_312].map(super::thousands), ["0", "999", "1,000", "303,885,312"]);
    }
}
