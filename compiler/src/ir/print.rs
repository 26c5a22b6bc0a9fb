//! The IR as stable text, one node a line.

use super::graph::{CountKind, Extent, Outer, Tables, Type};

/// `f32 segments0 [context0, dim=48]`.
pub fn show_type(tables: &Tables, t: &Type) -> String {
    let dims: Vec<String> = t
        .dims
        .iter()
        .map(|d| match (d.extent, &*d.name) {
            (Extent::Static(n), "") => n.to_string(),
            (e, "") => show_extent(tables, e),
            (e, name) => format!("{name}={}", show_extent(tables, e)),
        })
        .collect();
    format!("{} {} [{}]", t.dtype.name(), show_outer(t.outer), dims.join(", "))
}

/// `one`, `clips`, `segments0`.
pub fn show_outer(outer: Outer) -> String {
    match outer {
        Outer::One => "one".into(),
        Outer::Clips => "clips".into(),
        Outer::Segments(s) => format!("segments{}", s.0),
    }
}

/// A number, or `c` and the number of a count.
pub fn show_extent(tables: &Tables, extent: Extent) -> String {
    match extent {
        Extent::Static(n) => n.to_string(),
        Extent::Counted(c) => match tables.counts.get(c.0 as usize).map(|c| &c.kind) {
            Some(CountKind::Context(_) | CountKind::Target(_) | CountKind::Sum(..) | CountKind::Plus(..)) => {
                format!("c{}", c.0)
            }
            None => format!("c{}?", c.0),
        },
    }
}
