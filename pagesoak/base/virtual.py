"""Making a segment that of a virtual run: clocks, costs, nobody to be woken."""

from pagesoak.base import layout
from pagesoak.base.costs import Costs
from pagesoak.base.errors import HarnessError
from pagesoak.base.layout_virtual import H_COSTS, H_VIRTUAL
from pagesoak.base.segment import Segment


def make_virtual(segment: Segment, costs: Costs) -> None:
    """Make a segment that nobody has used yet that of a virtual run, with these costs.

    HarnessError when its pages are touched but have no content words.
    """
    header = segment.header
    if header[layout.H_TOUCH] and segment.plan.content_pages < segment.plan.max_pfn:
        raise HarnessError("a virtual guest whose pages are touched needs a content word for each")
    header[H_VIRTUAL] = 1
    header[layout.H_FENCED] = 0
    header[layout.H_TIMED_LOCKS] = 1
    segment.report[layout.R_EVENTFD] = -1
    for number, cost in enumerate(costs):
        header[H_COSTS + number] = cost
