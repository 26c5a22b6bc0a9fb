//! The exact GELU, x (1 + erf(x / sqrt 2)) / 2, as one op.
//!
//! Accepted: every way of writing the product of 1/2, x and 1 + erf(u) (or erf(u) + 1) with factors and divisors that are
//! numbers in any place, where u is x times or divided by a number such that u = x / sqrt 2. Numbers are compared within
//! single precision. Not accepted: the tanh approximation, which is another function.

use crate::ir::graph::{Graph, Tables, Value};
use crate::ir::op::{BinaryOp, Op, UnaryOp};

use super::rewrite::{at, binary, close, scaled, unary, uniform};

/// Replaces GELUs that are spelt out; returns how many.
pub fn recognise_gelu(tables: &Tables, graph: &mut Graph) -> usize {
    let mut count = 0;
    for node in graph.order() {
        let value: Value = node.into();
        let Some(x) = matched(graph, value) else { continue };
        let y = at(tables, graph, value).op(Op::Gelu, &[x]);
        graph.replace(value, y);
        count += 1;
    }
    count
}

fn matched(graph: &Graph, value: Value) -> Option<Value> {
    let product = factors(graph, value)?;
    let (place, u) = product.of.iter().enumerate().find_map(|(i, f)| Some((i, one_plus_erf(graph, *f)?)))?;
    let rest = Product { of: [&product.of[..place], &product.of[place + 1..]].concat(), ..product };
    let (x, factor) = scaled(graph, u)?;
    let own = factors(graph, x).unwrap_or(Product { number: 1.0, of: vec![x] });
    let same = sorted(own.of) == sorted(rest.of) && close(rest.number, 0.5 * own.number);
    (same && close(factor, std::f64::consts::FRAC_1_SQRT_2)).then_some(x)
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_unstable();
    values
}

/// u, if a value is 1 + erf(u).
fn one_plus_erf(graph: &Graph, value: Value) -> Option<Value> {
    let (p, q) = binary(graph, value, BinaryOp::Add)?;
    if uniform(graph, p) == Some(1.0) {
        return unary(graph, q, UnaryOp::Erf);
    }
    (uniform(graph, q) == Some(1.0)).then(|| unary(graph, p, UnaryOp::Erf)).flatten()
}

/// A number times values.
struct Product {
    number: f64,
    of: Vec<Value>,
}

/// A product taken apart; none if the value is no product.
fn factors(graph: &Graph, value: Value) -> Option<Product> {
    let of = |v: Value| factors(graph, v).unwrap_or(Product { number: 1.0, of: vec![v] });
    if let Some((x, number)) = scaled(graph, value) {
        let inner = of(x);
        return Some(Product { number: inner.number * number, of: inner.of });
    }
    let (x, y) = binary(graph, value, BinaryOp::Mul)?;
    let (x, y) = (of(x), of(y));
    Some(Product { number: x.number * y.number, of: [x.of, y.of].concat() })
}
