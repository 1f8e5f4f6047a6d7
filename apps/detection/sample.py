SAMPLE_RESOLUTION = 128


def make_sample():
    raise NotImplementedError
