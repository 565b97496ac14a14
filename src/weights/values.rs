//! Tensors out of a file: name, shape, values.

use bytemuck::{AnyBitPattern, cast_slice};
use half::{bf16, f16};
use std::collections::BTreeMap;

/// The values of a tensor, in torch's order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Floats.
    F32(Vec<f32>),
    /// Counters.
    I64(Vec<i64>),
}

impl Values {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Values::F32(values) => cast_slice(values),
            Values::I64(values) => cast_slice(values),
        }
    }
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Shape, as torch has it.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Values,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Stored>;

/// The type of the values in a file. Floats are read as single precision, whole numbers and truth values as `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl Dtype {
    /// Every type, with its name in PyTorch, that of its storages, and the bytes of a value.
    const ALL: [(Dtype, &str, &str, usize); 10] = [
        (Dtype::F64, "float64", "Double", 8),
        (Dtype::F32, "float32", "Float", 4),
        (Dtype::F16, "float16", "Half", 2),
        (Dtype::BF16, "bfloat16", "BFloat16", 2),
        (Dtype::I64, "int64", "Long", 8),
        (Dtype::I32, "int32", "Int", 4),
        (Dtype::I16, "int16", "Short", 2),
        (Dtype::I8, "int8", "Char", 1),
        (Dtype::U8, "uint8", "Byte", 1),
        (Dtype::Bool, "bool", "Bool", 1),
    ];

    fn row(self) -> (&'static str, usize) {
        let row = Dtype::ALL.iter().find(|row| row.0 == self).expect("every type has a row");
        (row.1, row.3)
    }

    /// PyTorch's name of it.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// Bytes of a value in the file.
    pub fn size(self) -> usize {
        self.row().1
    }

    /// Bytes of a value once read.
    pub(super) fn read_size(self) -> usize {
        if self.is_float() { 4 } else { 8 }
    }

    /// Whether it is read as single precision.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// The type that PyTorch calls `name`, as in `torch.float32`.
    pub(super) fn named(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The type of the values of storage class `name`, as in `torch.FloatStorage`.
    pub(super) fn of_storage(name: &str) -> Option<Dtype> {
        let kind = name.strip_suffix("Storage")?;
        Dtype::ALL.iter().find(|row| row.2 == kind).map(|row| row.0)
    }

    /// The values in `bytes`, which hold whole ones, little end first.
    pub(super) fn decode(self, bytes: &[u8]) -> Values {
        match self {
            Dtype::F64 => Values::F32(each(bytes, |x: f64| x as f32)),
            Dtype::F32 => Values::F32(each(bytes, |x: f32| x)),
            Dtype::F16 => Values::F32(each(bytes, f16::to_f32)),
            Dtype::BF16 => Values::F32(each(bytes, bf16::to_f32)),
            Dtype::I64 => Values::I64(each(bytes, |x: i64| x)),
            Dtype::I32 => Values::I64(each(bytes, |x: i32| x.into())),
            Dtype::I16 => Values::I64(each(bytes, |x: i16| x.into())),
            Dtype::I8 => Values::I64(each(bytes, |x: i8| x.into())),
            Dtype::U8 => Values::I64(each(bytes, |x: u8| x.into())),
            Dtype::Bool => Values::I64(each(bytes, |x: u8| (x != 0).into())),
        }
    }
}

fn each<T: AnyBitPattern, U>(bytes: &[u8], convert: impl Fn(T) -> U) -> Vec<U> {
    bytes.chunks_exact(size_of::<T>()).map(|value| convert(bytemuck::pod_read_unaligned(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Dtype, Values};

    #[test]
    fn narrow_and_wide_values_are_converted() {
        let float = |dtype: Dtype, bytes: &[u8], expected: f32| {
            assert_eq!(dtype.decode(bytes), Values::F32(vec![expected]), "{dtype:?}");
            assert_eq!(bytes.len(), dtype.size());
        };
        float(Dtype::F64, &(-1.5f64).to_le_bytes(), -1.5);
        float(Dtype::F32, &(0.1f32).to_le_bytes(), 0.1);
        float(Dtype::F16, &[0x01, 0x00], 5.9604645e-8);
        float(Dtype::BF16, &[0x80, 0xbf], -1.0);
        let whole = |dtype: Dtype, bytes: &[u8], expected: i64| {
            assert_eq!(dtype.decode(bytes), Values::I64(vec![expected]), "{dtype:?}");
            assert_eq!(bytes.len(), dtype.size());
        };
        whole(Dtype::I64, &i64::MIN.to_le_bytes(), i64::MIN);
        whole(Dtype::I32, &[0xff; 4], -1);
        whole(Dtype::I16, &[0xfe, 0xff], -2);
        whole(Dtype::I8, &[0x80], -128);
        whole(Dtype::U8, &[0x80], 128);
        whole(Dtype::Bool, &[2], 1);
    }
}
