//! Microsoft's and others' own clients for the end-to-end tests: a Python environment and a folder of Node packages,
//! kept under the target folder and renewed when their pinned lists change.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::guardian::Guardian;
use crate::run::{run, target, workspace};

/// Where the tests find Python with the clients in it.
pub(crate) const PYTHON_VARIABLE: &str = "POSTKEY_TEST_PYTHON";
/// Where the tests find the Node scripts with the clients beside them.
pub(crate) const NODE_VARIABLE: &str = "POSTKEY_TEST_NODE";

/// The installed clients.
pub(crate) struct Clients {
    /// Python's program inside its environment.
    pub(crate) python: PathBuf,
    /// A folder with `node_modules/` and, as `clients/`, the scripts.
    pub(crate) node: PathBuf,
}

/// Installs what the pinned lists name, unless it is already there.
pub(crate) fn ensure(guardian: &Guardian) -> Outcome<Clients> {
    let scripts = workspace().join("crates/postkey-e2e/clients");
    let installed = target().join("clients");
    Ok(Clients {
        python: python(guardian, &scripts, &installed.join("venv"))?,
        node: node(guardian, &scripts, &installed.join("node"))?,
    })
}

fn python(guardian: &Guardian, scripts: &Path, environment: &Path) -> Outcome<PathBuf> {
    let program = environment.join("bin/python");
    let list = scripts.join("requirements.txt");
    install_once(environment, std::slice::from_ref(&list), || {
        run(guardian, Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment))?;
        let mut pip = Command::new(&program);
        // The list is complete, so nothing is resolved; compiling 10,000 files that no test imports takes longer
        // than downloading them.
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        pip.args(["--no-deps", "--no-compile", "--only-binary=:all:", "--requirement"]).arg(&list);
        run(guardian, &mut pip)
    })?;
    Ok(program)
}

fn node(guardian: &Guardian, scripts: &Path, folder: &Path) -> Outcome<PathBuf> {
    let lists = [scripts.join("package.json"), scripts.join("package-lock.json")];
    install_once(folder, &lists, || {
        make_folder(folder)?;
        for list in &lists {
            copy(list, &folder.join(list.file_name().expect("both lists are files")))?;
        }
        // Node looks for packages beside the script's own path: the scripts are linked in, and run with
        // --preserve-symlinks-main.
        std::os::unix::fs::symlink(scripts, folder.join("clients"))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        run(guardian, &mut npm)
    })?;
    Ok(folder.to_path_buf())
}

/// Runs `install` into an empty folder unless the folder holds the result of the same lists. The copy of the lists
/// is written last, so a half-made folder is made anew.
fn install_once(folder: &Path, lists: &[PathBuf], install: impl FnOnce() -> Outcome) -> Outcome {
    let stamp = folder.join("installed-from");
    let mut wanted = String::new();
    for list in lists {
        wanted += &std::fs::read_to_string(list).map_err(|e| format!("{}: {e}", list.display()))?;
    }
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    install()?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn make_folder(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    std::fs::copy(from, to).map(drop).map_err(|e| format!("{}: {e}", from.display()))
}
