//! Tensors in safetensors files, read as f32 and written as f32.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, View};

use crate::error::{Error, Result};

/// A tensor of a file. Whole numbers and halves are widened to f64's range where that is exact.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Key.
    pub key: String,
    /// Dims.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Values,
}

/// Elements of a stored tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floating point.
    Floats(Vec<f32>),
    /// Whole numbers.
    Whole(Vec<i64>),
}

impl Stored {
    /// The elements as f32, if they are floating point.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Values::Floats(v) => Some(v),
            Values::Whole(_) => None,
        }
    }

    /// The elements as whole numbers, if they are.
    pub fn whole(&self) -> Option<&[i64]> {
        match &self.data {
            Values::Floats(_) => None,
            Values::Whole(v) => Some(v),
        }
    }
}

/// All tensors of a file, by key.
pub fn read_tensors(path: &Path) -> Result<Vec<Stored>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| Error::failed(format!("`{}` is no complete safetensors file: {e}", path.display())))?;
    let mut all = Vec::new();
    for (key, view) in file.tensors() {
        let data = values(view.dtype(), view.data()).ok_or_else(|| {
            let (file, ty) = (path.display(), view.dtype());
            Error::failed(format!(
                "tensor `{key}` of `{file}` holds {ty:?}; f32, f64, f16, bf16, i32 or i64 can be read"
            ))
        })?;
        all.push(Stored { key, shape: view.shape().to_vec(), data });
    }
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(all)
}

fn values(dtype: Dtype, bytes: &[u8]) -> Option<Values> {
    fn each<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|c| read(*c)).collect()
    }
    // `Dtype` may grow; what we cannot read is reported by the caller.
    match dtype {
        Dtype::F32 => Some(Values::Floats(each(bytes, f32::from_le_bytes))),
        Dtype::F64 => Some(Values::Floats(each(bytes, |b| f64::from_le_bytes(b) as f32))),
        Dtype::F16 => Some(Values::Floats(each(bytes, |b| half::f16::from_le_bytes(b).to_f32()))),
        Dtype::BF16 => Some(Values::Floats(each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()))),
        Dtype::I64 => Some(Values::Whole(each(bytes, i64::from_le_bytes))),
        Dtype::I32 => Some(Values::Whole(each(bytes, |b| i32::from_le_bytes(b) as i64))),
        _ => None,
    }
}

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Dims.
    pub shape: &'a [usize],
    /// Elements.
    pub data: &'a [f32],
}

impl View for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        size_of_val(self.data)
    }
}

/// Writes tensors to a new file and syncs it.
pub fn write_tensors<'a>(path: &Path, tensors: impl IntoIterator<Item = (&'a str, Tensor<'a>)>) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| Error::io("write", path, e);
    safetensors::serialize_to_file(tensors, None, path).map_err(|e| failed(&e))?;
    File::open(path).and_then(|f| f.sync_all()).map_err(|e| failed(&e))
}
