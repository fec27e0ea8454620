//! The names that a pickle of weights may ask for.

/// What such a name stands for. None of them is ever called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// `torch.FloatStorage` and its like.
    Storage(StorageType),
}

/// Type of the numbers in a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StorageType {
    Float,
    Half,
    BFloat16,
    Double,
    /// A type that weights do not have, its name and its size in bytes.
    Other(&'static str, u64),
}

impl Name {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", name) => StorageType::find(name).map(Self::Storage),
            _ => None,
        }
    }
}

impl StorageType {
    fn find(name: &str) -> Option<Self> {
        Some(match name.strip_suffix("Storage")? {
            "Float" => Self::Float,
            "Half" => Self::Half,
            "BFloat16" => Self::BFloat16,
            "Double" => Self::Double,
            "Long" => Self::Other("int64", 8),
            "Int" => Self::Other("int32", 4),
            "Short" => Self::Other("int16", 2),
            "Char" => Self::Other("int8", 1),
            "Byte" => Self::Other("uint8", 1),
            "Bool" => Self::Other("bool", 1),
            _ => return None,
        })
    }
}
