//! Tensors with several in one: as many names for its parts, which are rows one below the other.

use std::collections::HashMap;

use super::Stored;

/// How names of several in one end, and what their parts are called.
const PACKED: [(&str, &[&str], &str); 6] = [
    ("in_proj_weight", &QUERY_KEY_VALUE, ".weight"),
    ("in_proj_bias", &QUERY_KEY_VALUE, ".bias"),
    (".qkv.weight", &[".q_proj", ".k_proj", ".v_proj"], ".weight"),
    (".qkv.bias", &[".q_proj", ".k_proj", ".v_proj"], ".bias"),
    (".kv.weight", &[".k_proj", ".v_proj"], ".weight"),
    (".kv.bias", &[".k_proj", ".v_proj"], ".bias"),
];
const QUERY_KEY_VALUE: [&str; 3] = ["q_proj", "k_proj", "v_proj"];

/// Adds the parts of all such tensors.
pub(super) fn split(tensors: &mut HashMap<String, Stored>) {
    let mut parts = Vec::new();
    for (name, stored) in tensors.iter() {
        for (end, names, kind) in PACKED {
            if let Some(start) = name.strip_suffix(end) {
                let each = names.iter().zip(rows(stored, names.len() as i64));
                parts.extend(each.map(|(part, rows)| (format!("{start}{part}{kind}"), rows)));
            }
        }
    }
    for (name, stored) in parts {
        tensors.entry(name).or_insert(stored);
    }
}

/// So many parts with as many rows each; none of a tensor that has another number of rows.
fn rows(stored: &Stored, count: i64) -> Vec<Stored> {
    let Ok(kind) = &stored.kind else { return Vec::new() };
    let Some((all, rest)) = stored.shape.split_first() else { return Vec::new() };
    if all % count != 0 {
        return Vec::new();
    }
    let step = stored.strides.as_ref().map_or_else(|| rest.iter().product(), |strides| strides[0]);
    let bytes = (all / count * step) as u64 * kind.elt_size_in_bytes() as u64;
    let part = |number: i64| Stored {
        start: stored.start + number as u64 * bytes,
        shape: [&[all / count], rest].concat(),
        ..stored.clone()
    };
    (0..count).map(part).collect()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn stored(start: u64, shape: &[i64], strides: Option<&[i64]>) -> Stored {
        let strides = strides.map(<[i64]>::to_vec);
        Stored { file: 0, start, kind: Ok(Kind::Half), shape: shape.to_vec(), strides }
    }

    #[test]
    fn parts_are_rows_of_the_whole() {
        let mut tensors = HashMap::from([
            ("a.in_proj_weight".to_owned(), stored(100, &[6, 4], None)),
            ("a.in_proj_bias".to_owned(), stored(10, &[6], None)),
            ("b.kv.weight".to_owned(), stored(0, &[6, 4], Some(&[1, 6]))),
            ("c.qkv.weight".to_owned(), stored(0, &[7, 4], None)),
            ("d.qkv.bias".to_owned(), stored(0, &[], None)),
        ]);
        split(&mut tensors);
        assert_eq!(tensors["a.q_proj.weight"], stored(100, &[2, 4], None));
        assert_eq!(tensors["a.v_proj.weight"], stored(132, &[2, 4], None));
        assert_eq!(tensors["a.k_proj.bias"], stored(14, &[2], None));
        assert_eq!(tensors["b.v_proj.weight"], stored(6, &[3, 4], Some(&[1, 6])));
        assert_eq!(tensors.len(), 5 + 6 + 2);
    }
}
