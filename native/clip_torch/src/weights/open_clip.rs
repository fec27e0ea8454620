//! open_clip's names of tensors as transformers' names. No tensor is read or moved: where two store
//! the same numbers in another order, the way of reading them changes.

use std::collections::HashMap;

use super::Stored;

/// What stands before the text tower's names where a model has it as a part of its own.
const TEXT: &str = "text.";
const VISION: &str = "vision_model.encoder.layers.";

/// Beginnings of names, those of timm's image towers too; what follows stays.
const BEGINNINGS: [(&str, &str); 19] = [
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    // The name is misspelt in every checkpoint of transformers.
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.proj", "visual_projection.weight"),
    ("visual.trunk.patch_embed.proj.", "vision_model.embeddings.patch_embedding."),
    ("visual.trunk.pos_embed", "vision_model.embeddings.position_embedding.weight"),
    ("visual.trunk.norm.", "vision_model.post_layernorm."),
    ("visual.trunk.attn_pool.latent", "vision_model.head.probe"),
    ("visual.trunk.attn_pool.q.", "vision_model.head.attention.q_proj."),
    ("visual.trunk.attn_pool.k_proj.", "vision_model.head.attention.k_proj."),
    ("visual.trunk.attn_pool.v_proj.", "vision_model.head.attention.v_proj."),
    ("visual.trunk.attn_pool.proj.", "vision_model.head.attention.out_proj."),
    ("visual.trunk.attn_pool.norm.", "vision_model.head.layernorm."),
    ("visual.trunk.attn_pool.mlp.", "vision_model.head.mlp."),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.", "text_model.final_layer_norm."),
];

/// Beginnings of the names of blocks, before the number.
const BLOCKS: [(&str, &str); 3] = [
    ("visual.transformer.resblocks.", VISION),
    ("visual.trunk.blocks.", VISION),
    ("transformer.resblocks.", "text_model.encoder.layers."),
];

/// Parts of a block, behind the number.
const PARTS: [(&str, &str); 12] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("norm1.", "layer_norm1."),
    ("norm2.", "layer_norm2."),
    ("attn.q_proj.", "self_attn.q_proj."),
    ("attn.k_proj.", "self_attn.k_proj."),
    ("attn.v_proj.", "self_attn.v_proj."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("attn.proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
    ("mlp.", "mlp."),
];

/// The same tensors by transformers' names. Those that no tower has are left out.
pub(super) fn renamed(tensors: HashMap<String, Stored>) -> HashMap<String, Stored> {
    let named = |(name, stored): (String, Stored)| {
        let plain = name.strip_prefix(TEXT).unwrap_or(&name);
        Some((transformers(plain)?, reordered(plain, stored)))
    };
    tensors.into_iter().filter_map(named).collect()
}

fn transformers(name: &str) -> Option<String> {
    match name {
        "logit_scale" | "logit_bias" => return Some(name.to_owned()),
        // A matrix by itself, or a layer with a bias.
        "text_projection" => return Some("text_projection.weight".to_owned()),
        "text_projection.weight" | "text_projection.bias" => {
            return Some(name.replace("text_projection", "text_model.head"));
        }
        _ => {}
    }
    for (start, other) in BLOCKS {
        if let Some((number, part)) = name.strip_prefix(start).and_then(|rest| rest.split_once('.'))
        {
            return Some(format!("{other}{number}.{}", replaced(part, &PARTS)?));
        }
    }
    replaced(name, &BEGINNINGS)
}

fn replaced(name: &str, beginnings: &[(&str, &str)]) -> Option<String> {
    let (start, other) = beginnings.iter().find(|(start, _)| name.starts_with(start))?;
    Some(format!("{other}{}", &name[start.len()..]))
}

/// The numbers in transformers' order: projections are the other way round, and timm's positions
/// have a batch of one around them.
fn reordered(name: &str, mut stored: Stored) -> Stored {
    match (name, &*stored.shape) {
        ("visual.proj" | "text_projection", &[rows, columns]) => {
            let strides = stored.strides.unwrap_or_else(|| vec![columns, 1]);
            stored.strides = Some(strides.into_iter().rev().collect());
            stored.shape = vec![columns, rows];
        }
        ("visual.trunk.pos_embed", &[1, rows, columns]) => {
            stored.strides = stored.strides.map(|strides| strides[1..].to_vec());
            stored.shape = vec![rows, columns];
        }
        _ => {}
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_kinds_of_towers() {
        for (name, expected) in [
            ("visual.proj", Some("visual_projection.weight")),
            (
                "visual.transformer.resblocks.11.mlp.c_proj.bias",
                Some("vision_model.encoder.layers.11.mlp.fc2.bias"),
            ),
            (
                "visual.trunk.blocks.0.norm2.weight",
                Some("vision_model.encoder.layers.0.layer_norm2.weight"),
            ),
            (
                "visual.trunk.blocks.0.mlp.fc1.weight",
                Some("vision_model.encoder.layers.0.mlp.fc1.weight"),
            ),
            ("visual.trunk.blocks.0.attn.qkv.weight", None),
            (
                "transformer.resblocks.3.attn.q_proj.weight",
                Some("text_model.encoder.layers.3.self_attn.q_proj.weight"),
            ),
            ("ln_final.bias", Some("text_model.final_layer_norm.bias")),
            ("text_projection.bias", Some("text_model.head.bias")),
            ("visual.head.proj.weight", None),
            ("attn_mask", None),
        ] {
            assert_eq!(transformers(name).as_deref(), expected, "{name}");
        }
    }
}
