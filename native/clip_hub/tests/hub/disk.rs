//! Disks that are full or read-only: small file systems of the test's own, if the system lets us
//! mount them.

use std::fs;
use std::path::Path;
use std::process::Command;

use clip_hub::{ErrorKind, HubOptions};

use crate::processes::child_command;
use crate::server::How;
use crate::site::{Site, large, model};
use crate::support::{Directory, failure, fetch, options, repo};

/// Runs a child after `mounts`, shell commands on `$1`, in a namespace of its own. Returns `None` if
/// that is not allowed.
fn mounted(options: &HubOptions, mounts: &str, refresh: bool) -> Option<String> {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|s| s.success()) {
        eprintln!("skipped: unshare -rm is not allowed here");
        return None;
    }
    let child = child_command(options);
    let script = format!("{mounts} && shift && exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, "sh"]).arg(&options.cache_dir);
    command.arg(child.get_program()).args(child.get_args());
    command.envs(child.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if refresh {
        command.env("CLIP_HUB_TEST_REFRESH", "1");
    }
    let output = command.output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn a_small_disk_is_an_error_before_any_download() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let mount = "mount -t tmpfs -o size=1m none \"$1\"";
    let Some(output) = mounted(&options(&site, &cache), mount, false) else { return };
    assert!(output.contains("error disk_full: org/model at main needs 300"), "{output}");
    assert!(output.contains("HF_HUB_CACHE"), "{output}");
    assert_eq!(site.content.requests().len(), 0);
}

#[test]
fn a_disk_that_fills_up_is_an_error() {
    let mut files = model();
    files[4] = large("model.safetensors", 1);
    files[4].content = vec![7; 20 << 20].into();
    // The hub does not say how large the weights are.
    let site = Site::with(files, |_, reply| {
        let reply = reply.without("x-linked-size");
        if reply.body.len() > 1 << 20 {
            reply.without("content-length").how(How::Chunked)
        } else {
            reply
        }
    });
    let cache = Directory::new();
    let mount = "mount -t tmpfs -o size=18m none \"$1\"";
    let Some(output) = mounted(&options(&site, &cache), mount, false) else { return };
    assert!(output.contains("error disk_full: no space left to write"), "{output}");
}

#[test]
fn a_read_only_cache_is_used_but_not_filled() {
    let (site, cache) = (Site::new(model()), Directory::new());
    let options = options(&site, &cache);
    let mount = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let Some(output) = mounted(&options, mount, false) else { return };
    assert!(output.contains("error cache_not_writable: cannot write "), "{output}");

    // Files that are there are used all the same, refreshed or not.
    fetch(&repo(), &options).unwrap();
    for refresh in [false, true] {
        let output = mounted(&options, mount, refresh).unwrap();
        assert!(output.contains("\ndirectory "), "{output}");
    }
}

#[test]
fn a_cache_that_is_not_a_directory_is_an_error() {
    let (site, outer) = (Site::new(model()), Directory::new());
    fs::write(outer.join("file"), b"precious").unwrap();
    for path in ["file", "file/cache"] {
        let error = failure(&options(&site, &outer.join(path)));
        assert_eq!(error.kind(), ErrorKind::CacheNotWritable, "{error}");
        assert!(error.to_string().contains("HF_HUB_CACHE"), "{error}");
    }
    assert_eq!(fs::read(outer.join("file")).unwrap(), b"precious");
    assert_eq!(
        failure(&options(&site, Path::new("/proc/no/such"))).kind(),
        ErrorKind::CacheNotWritable
    );
}
