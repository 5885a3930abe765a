"""Floor 2: the balloon host, the hypervisor's side of a report.

It owns the guest's RAM as a file, checks each reported range against its ledger and punches it
out. It knows the reporter only through the report request of `pagesoak.base`.
"""
