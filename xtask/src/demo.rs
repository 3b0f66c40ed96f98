//! The main job, once, where everybody can watch.

use crate::Result;
use crate::run::{Spfs, check, shell};

const EDIT: &str = r#"
echo "+ inside an editable runtime of demo/tool"
ls -l /spfs /spfs/bin
echo "new content" > /spfs/notes.txt
echo "echo hello, edited" >> /spfs/bin/greet
rm /spfs/share/old.txt
echo "+ spfs diff"
"$SPFS" diff
echo "+ spfs commit layer -m 'Edited the greeting' -t demo/edited"
"$SPFS" commit layer -m "Edited the greeting" -t demo/edited
"#;

const LOOK: &str = r#"
echo "+ inside a read-only runtime of demo/edited"
find /spfs -type f | sort
/spfs/bin/greet
cat /spfs/notes.txt
touch /spfs/x || echo "(as it should be)"
"#;

pub(crate) fn demo() -> Result {
    let spfs = Spfs::new(None)?;
    let tree = spfs.dir.path().join("tree");
    println!("+ a directory with a tool in it");
    check(
        shell(
            "mkdir -p tree/bin tree/share; printf '#!/bin/sh\\necho hello\\n' > tree/bin/greet
             chmod +x tree/bin/greet; echo old > tree/share/old.txt; find tree -type f | sort",
        )
        .current_dir(spfs.dir.path()),
    )?;
    println!("+ spfs commit --path tree -t demo/tool");
    let path = tree.to_string_lossy();
    spfs.run(["commit", "--path", &path, "-t", "demo/tool"])?;
    spfs.edit("demo/tool", EDIT)?;
    spfs.run(["run", "demo/edited", "--", "bash", "-c", LOOK])?;
    println!("+ spfs log demo/edited");
    spfs.run(["log", "demo/edited"])
}
