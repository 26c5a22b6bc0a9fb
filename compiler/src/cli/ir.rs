//! `vjepac ir --stage S`: what a stage makes of the model, as stable text.

use std::fmt::Write;

use vjepac::ir::graph::{Graph, Tables};
use vjepac::ir::print::print_module;
use vjepac::model::{Axis, AxisSize, Model};
use vjepac::program::{Entry, Program};
use vjepac::{build, driver, syntax};

use super::keys::kind;
use super::session::{Failure, Session, print};

/// Stages of the training step that `driver::lower` shows.
const WATCHED: [&str; 5] = ["build", "recognise", "differentiate", "optimise", "update"];
/// All stages, in order.
const STAGES: [&str; 11] = [
    "parse",
    "elaborate",
    "init",
    "draw",
    "build",
    "recognise",
    "differentiate",
    "optimise",
    "update",
    "metrics",
    "backbone",
];

/// Prints one stage.
pub fn run(session: &mut Session, stage: &str, taps: bool) -> Result<(), Failure> {
    if !STAGES.contains(&stage) {
        return Err(Failure::Usage(format!("there is no stage `{stage}`; the stages are {}", STAGES.join(", "))));
    }
    if stage == "parse" {
        let ast = syntax::parse(&session.sources, session.file).map_err(Failure::Source)?;
        print(&syntax::print::print_ast(&ast));
        return Ok(());
    }
    let model = session.checked()?;
    if stage == "elaborate" {
        print(&show_model(&model));
        return Ok(());
    }
    let built = build::build(&model, build::Options { taps });
    let mut text = String::new();
    let watch = |name: &str, tables: &Tables, graph: &Graph| {
        if name == stage {
            text = print_module(tables, graph);
        }
    };
    let program = driver::lower(&model, built, String::new(), watch);
    if !WATCHED.contains(&stage) {
        text = entry(&program, stage);
    }
    print(&text);
    Ok(())
}

fn entry(program: &Program, stage: &str) -> String {
    let entry = Entry::ALL.into_iter().find(|e| e.name() == stage);
    entry.map_or(String::new(), |e| print_module(&program.tables, program.entry(e)))
}

/// The model as text: axes, stored tensors, masks, nodes.
fn show_model(model: &Model) -> String {
    let mut out = format!("model {}\n", model.name);
    for (i, axis) in model.axes.iter().enumerate() {
        let _ = writeln!(out, "axis a{i} {}", show_axis(axis));
    }
    for weight in &model.weights {
        let _ = writeln!(out, "weight {:?} {} {:?}", weight.key, kind(weight), weight.stored);
    }
    for (i, node) in model.nodes.iter().enumerate() {
        let inputs: Vec<String> = node.inputs.iter().map(|n| format!(" %{}", n.0)).collect();
        let axes = model.show_axes(node.outer, &node.axes);
        let _ = writeln!(out, "%{i}: {axes} = {:?}{}   # {}", node.op, inputs.concat(), node.place);
    }
    for mask in &model.masks {
        let _ = writeln!(out, "mask {:?} context %{} target %{}", mask.name, mask.context.0, mask.target.0);
    }
    for (name, node) in &model.metrics {
        let _ = writeln!(out, "metric {name:?} %{}", node.0);
    }
    let _ = writeln!(out, "loss %{}", model.loss.0);
    out
}

fn show_axis(axis: &Axis) -> String {
    let size = match axis.size {
        AxisSize::Static(n) => n.to_string(),
        AxisSize::Counted(set, which, bound) => format!("{which:?} of set {} up to {bound}", set.0),
        AxisSize::Joined(a, b) => format!("a{} | a{}", a.0, b.0),
    };
    let factors: Vec<String> = axis.factors.iter().map(|a| format!("a{}", a.0)).collect();
    let product = if factors.is_empty() { String::new() } else { format!(" = ({})", factors.join(", ")) };
    format!("{}: {size}{product}", axis.name)
}
