-- Lmod: put the directory above this one's parent into MODULEPATH, or copy this file and set root.
help([[slurm-sandbox turns a Slurm cluster into a sandbox provider: leases are batch jobs with their own sshd.
`slurm-sandbox guide` is the way in, `man slurm-sandbox` the reference.]])
whatis("Name: slurm-sandbox")
whatis("Version: @VERSION@")
whatis("Description: leases of compute nodes over SSH, each a Slurm job of yours")

-- <root>/share/modulefiles/slurm-sandbox/@VERSION@.lua
local root = myFileName():gsub("/share/modulefiles/.*$", "")
prepend_path("PATH", pathJoin(root, "bin"))
prepend_path("MANPATH", pathJoin(root, "share/man"))
prepend_path("XDG_DATA_DIRS", pathJoin(root, "share"))
