//! `--root DIR`: the whole run happens inside an image, and nothing outside of it is changed.

use super::args::Request;
use crate::base::files;
use crate::cli::signals;
use crate::host::Host;
use crate::host::image::{self, Inside};
use crate::host::layout::Layout;
use crate::install::deploy::FirstBoot;
use crate::settings::onboarding::OnboardingFile;
use crate::workspace::OnboardingRequest;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A CA bundle is some 250 kB; this is generous.
const CA_LIMIT: usize = 4 << 20;

/// Where the run works: inside the image that was asked for, with a folder for package files there.
/// What was given on the command line was read by then, from outside, but for the CA file.
pub struct Place {
    /// Packages are laid there while they are read.
    pub scratch: Option<PathBuf>,
    /// The image, as seen from outside.
    root: PathBuf,
    ca: Option<Vec<u8>>,
    _inside: Inside,
}

/// Enters the image of `--root`, if there is one to enter, and looks at it.
pub fn enter(host: &mut Host, request: &Request) -> Result<Option<Place>> {
    let Some(root) = request.root.as_deref() else {
        return Ok(None);
    };
    if image::is_running_root(root) {
        return Ok(None);
    }
    let ca_file = request.onboarding.as_ref().and_then(|o| o.ca_file.as_ref());
    let ca = ca_file.map(|path| read_ca(path)).transpose()?;
    let full = std::fs::canonicalize(root)
        .with_context(|| format!("cannot use `{}` as the root of an image", root.display()))?;
    let inside = image::enter(root)?;
    *host = Host::detect(Layout::new("/"));
    Ok(Some(Place {
        scratch: None,
        root: full,
        ca,
        _inside: inside,
    }))
}

fn read_ca(path: &Path) -> Result<Vec<u8>> {
    files::read(path, CA_LIMIT)?
        .with_context(|| format!("CA file `{}` does not exist", path.display()))
}

impl Place {
    /// A private folder for package files, inside.
    pub fn make_scratch(&mut self) -> Result<&Path> {
        if self.scratch.is_none() {
            let dir = ["/var/tmp", "/tmp", "/root"].map(Path::new);
            let dir = dir.into_iter().find(|dir| dir.is_dir());
            let dir = dir.context("the image has none of the folders /var/tmp, /tmp and /root")?;
            let made = files::private_dir(dir, "omsagent-")?;
            signals::also_remove(self.root.join(made.strip_prefix("/").unwrap_or(&made)));
            self.scratch = Some(made);
        }
        Ok(self.scratch.as_deref().unwrap_or(Path::new("/")))
    }

    /// What the image finds at its first boot, instead of an onboarding now.
    pub fn first_boot(&self, request: OnboardingRequest) -> Result<FirstBoot> {
        let file = OnboardingFile {
            workspace_id: Some(request.id.as_str().to_owned()),
            shared_key: Some(request.key),
            proxy: request.proxy,
            url_tld: Some(request.domain),
            azure_resource_id: request.azure_resource,
            multi_homing_marker: request.marker,
            ca_file: None,
            warnings: Vec::new(),
        };
        Ok(FirstBoot {
            file: file.to_text()?,
            ca: self.ca.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(scratch) = &self.scratch {
            let _ = files::remove_tree(scratch);
        }
    }
}
