"""A module of somebody's project; the pickles beside it name what is in it."""

import kinetic


@kinetic.run(accelerator="l4", retries=2, tags=["example"], project="my-project")
def doubled(number):
    return 2 * number


def tripled(number):
    return 3 * number


class Model:
    def __init__(self, factor):
        self.factor = factor

    @kinetic.run(name="scaling")
    def scaled(self, number):
        return self.factor * number
