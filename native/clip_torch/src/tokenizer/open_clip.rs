//! How open_clip cleans a prompt before its tokenizers for SigLIP.

use super::siglip;

/// open_clip's `canonicalize_text`: as SigLIP's, but an underscore is a space, and SigLIP 2's prompts
/// lose their punctuation too. Entities of HTML and broken encodings, which open_clip mends, stay.
pub(super) fn canonical(text: &str) -> String {
    siglip::canonical(&text.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underscore_is_a_space() {
        assert_eq!(canonical(" A hot_dog,\tnow!"), "a hot dog now");
    }
}
