//! A checkpoint that is sound but for one file.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use clip_torch::{DeviceRequest, ErrorKind, LoadOptions, Model};

use crate::support::{Scratch, copy_folder, fixture};

/// A sound checkpoint of which a test damages a file.
pub(crate) struct Victim {
    scratch: Scratch,
    cache: Scratch,
}

impl Victim {
    pub(crate) fn new(name: &str) -> Self {
        let victim = Self { scratch: Scratch::new(), cache: Scratch::new() };
        copy_folder(&fixture("checkpoints").join(name), victim.scratch.path());
        victim
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    pub(crate) fn load(&self) -> clip_torch::Result<Model> {
        Model::load(self.scratch.path(), &LoadOptions::new(DeviceRequest::Cpu, self.cache.path()))
    }

    /// Replaces a file for good.
    pub(crate) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(file), content).unwrap();
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        fs::read(self.scratch.path().join(file)).unwrap()
    }

    /// Why the checkpoint is refused with this content of a file.
    pub(crate) fn refusal(&self, file: &str, content: &[u8], kind: ErrorKind) -> String {
        let sound = self.read(file);
        fs::write(self.scratch.path().join(file), content).unwrap();
        let options = LoadOptions::new(DeviceRequest::Cpu, self.cache.path());
        let error = Model::load(self.scratch.path(), &options).expect_err("refused");
        fs::write(self.scratch.path().join(file), sound).unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        let message = error.to_string();
        assert!(message.contains(file), "{message}");
        message
    }

    pub(crate) fn expect(&self, file: &str, content: &[u8], kind: ErrorKind, expected: &str) {
        let message = self.refusal(file, content, kind);
        assert!(message.contains(expected), "{message}");
    }
}
