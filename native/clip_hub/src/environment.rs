//! The variables of Hugging Face's tools, with the precedence Python's `huggingface_hub` gives
//! them, so that both find the same cache and the same token.

use std::path::PathBuf;

use clip::checkpoint::files;

use crate::error::{Error, ErrorKind, Result};
use crate::token::Token;

/// Largest file with a token that is read.
const MAX_TOKEN: u64 = 64 * 1024;

pub(crate) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Environment<'a> {
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { variable }
    }

    /// A variable that is set to something: an empty one is as good as none.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().to_ascii_uppercase();
        ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|value| PathBuf::from(self.expand(&value)))
    }

    pub(crate) fn endpoint(&self) -> Option<String> {
        self.get("HF_ENDPOINT")
    }

    pub(crate) fn offline(&self) -> bool {
        self.is_true("HF_HUB_OFFLINE") || self.is_true("TRANSFORMERS_OFFLINE")
    }

    pub(crate) fn symlinks(&self) -> bool {
        !self.is_true("HF_HUB_DISABLE_SYMLINKS")
    }

    /// What curl, OpenSSL and Python's clients read as well.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE").or_else(|| self.path("REQUESTS_CA_BUNDLE"))
    }

    /// None for a service without a home. What the system's list of users says is not asked: for
    /// such a service it is `/`.
    fn hf_home(&self) -> Option<PathBuf> {
        self.path("HF_HOME").or_else(|| {
            let cache = self.path("XDG_CACHE_HOME");
            let cache = cache.or_else(|| Some(PathBuf::from(self.get("HOME")?).join(".cache")));
            Some(cache?.join("huggingface"))
        })
    }

    pub(crate) fn hub_cache(&self) -> Result<PathBuf> {
        // The second is the old name of the first.
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hf_home()?.join("hub")))
            .ok_or_else(|| {
                let message = "no directory to keep models in: neither HOME nor XDG_CACHE_HOME is \
                               set; set HF_HOME to a directory that can be written, or give one \
                               as :hub_cache";
                Error::new(ErrorKind::CacheNotWritable, message)
            })
    }

    /// The token that is used without being asked for.
    pub(crate) fn token(&self) -> Result<Option<Token>> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        let text = self.get("HF_TOKEN").or_else(|| self.get("HUGGING_FACE_HUB_TOKEN"));
        let text = text.or_else(|| {
            let path = self.path("HF_TOKEN_PATH");
            let path = path.or_else(|| Some(self.hf_home()?.join("token")))?;
            String::from_utf8(files::read(&path, MAX_TOKEN).ok()??).ok()
        });
        text.filter(|text| !text.trim().is_empty()).map(|text| Token::new(&text)).transpose()
    }

    /// `~`, `$NAME` and `${NAME}` at the start of a part of the path.
    fn expand(&self, path: &str) -> String {
        let parts = path.split('/').enumerate().map(|(index, part)| match part {
            "~" if index == 0 => self.get("HOME").unwrap_or_else(|| part.to_owned()),
            _ => {
                let name = part.strip_prefix('$').unwrap_or_default();
                let name = name.strip_prefix('{').and_then(|n| n.strip_suffix('}')).unwrap_or(name);
                self.get(name).unwrap_or_else(|| part.to_owned())
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{env, fs};

    use super::*;
    use crate::options::{HubOptions, Overrides};
    use crate::token::TokenChoice;

    fn options(variables: &[(&str, &str)], overrides: &Overrides) -> HubOptions {
        let get = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        HubOptions::from_vars(&get, overrides).unwrap()
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        options(variables, &Overrides::default()).cache_dir.to_string_lossy().into_owned()
    }

    #[test]
    fn cache_directories() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), "/home/me/.cache/huggingface/hub");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        assert_eq!(cache(&[home, xdg]), "/xdg/huggingface/hub");
        let hf_home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf_home]), "/home/me/hf/hub");
        let old = ("HUGGINGFACE_HUB_CACHE", "$DISK/old");
        assert_eq!(cache(&[home, hf_home, old, ("DISK", "/disk")]), "/disk/old");
        let new = ("HF_HUB_CACHE", "${DISK}/new");
        assert_eq!(cache(&[home, hf_home, old, new, ("DISK", "/disk")]), "/disk/new");
        assert_eq!(cache(&[home, ("HF_HUB_CACHE", "")]), "/home/me/.cache/huggingface/hub");
    }

    #[test]
    fn without_a_home_the_cache_has_to_be_named() {
        let of = |variables: &[(&str, &str)]| {
            let get = |name: &str| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            HubOptions::from_vars(&get, &Overrides::default())
        };
        for homeless in [&[][..], &[("HOME", ""), ("XDG_CACHE_HOME", "")]] {
            let error = of(homeless).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CacheNotWritable);
            let message = error.to_string();
            assert!(message.contains("HF_HOME") && message.contains(":hub_cache"), "{message}");
        }
        assert_eq!(cache(&[("HF_HOME", "/hf")]), "/hf/hub");
        let overrides = Overrides { cache_dir: Some("/own".into()), ..Overrides::default() };
        assert_eq!(options(&[], &overrides).cache_dir, PathBuf::from("/own"));
    }

    #[test]
    fn tokens() {
        let directory = env::temp_dir().join(format!("clip-hub-token-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("token"), "hf_file\n").unwrap();
        let home = ("HF_HOME", directory.to_str().unwrap());
        let none = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        let token = |variables: &[(&str, &str)], choice: TokenChoice| {
            let overrides = Overrides { token: choice, ..Overrides::default() };
            options(variables, &overrides).token.map(|token| token.header())
        };
        let implicit = TokenChoice::Implicit;
        assert_eq!(token(&[home], implicit.clone()).unwrap(), "Bearer hf_file");
        let variable = ("HF_TOKEN", " hf_env ");
        assert_eq!(token(&[home, variable], implicit.clone()).unwrap(), "Bearer hf_env");
        assert_eq!(token(&[home, variable, none], implicit), None);
        let explicit = TokenChoice::Explicit(Token::new("hf_own").unwrap());
        assert_eq!(token(&[home, variable, none], explicit).unwrap(), "Bearer hf_own");
        assert_eq!(token(&[home, variable], TokenChoice::Without), None);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn switches() {
        let home = ("HOME", "/home/me");
        let offline =
            |value| options(&[home, ("HF_HUB_OFFLINE", value)], &Overrides::default()).offline;
        assert!(offline("1") && offline("True") && offline("on"));
        assert!(!offline("0") && !offline("") && !offline("false"));
        let overrides = Overrides { offline: Some(false), ..Overrides::default() };
        assert!(!options(&[home, ("HF_HUB_OFFLINE", "1")], &overrides).offline);
        let symlinks = |value| {
            let variables = [home, ("HF_HUB_DISABLE_SYMLINKS", value)];
            options(&variables, &Overrides::default()).symlinks
        };
        assert!(symlinks("0") && symlinks("") && !symlinks("1") && !symlinks("true"));
        let mirror = [home, ("HF_ENDPOINT", "https://mirror.test")];
        assert_eq!(options(&mirror, &Overrides::default()).endpoint, "https://mirror.test");
    }
}
