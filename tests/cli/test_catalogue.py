import pytest

from cyconv import analysis, cli, models
from cyconv.models.registry import networks


def lines(capsys, *arguments):
    assert cli.main([*arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_models_lists_every_network_as_it_is(capsys):
    head, *rows, _ = lines(capsys, "models")
    assert head.split() == ["network", "parameters", "multiply-adds", "input", "output", "paper"]
    table = {row.split()[0]: [cell.strip() for cell in row.split("  ") if cell] for row in rows}
    assert list(table) == list(networks())
    assert table["vgg16"] == [
        "vgg16",
        "138,357,544",
        "15.5 G",
        "3x224x224",
        "1000 classes",
        "Simonyan and Zisserman 2015",
    ]
    assert table["lenet5"] == ["lenet5", "61,706", "417 k", "1x32x32", "10 classes", "LeCun et al. 1998"]
    assert table["unet"][3:] == ["1x572x572", "2 classes of 388x388 pixels", "Ronneberger et al. 2015"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (7, "7  "),
        (999, "999  "),
        (1000, "1.00 k"),
        (416_520, "417 k"),
        (40_600_000, "40.6 M"),
        (15_470_264_320, "15.5 G"),
    ],
)
def test_counts_have_three_digits(count, text):
    assert cli.catalogue.rounded(count) == text


def test_summary_shows_papers_and_layers(capsys):
    paper, *table = lines(capsys, "summary", "resnet20")
    assert paper.startswith("K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning")
    assert "\n".join(table) == models.resnet20().summary()


def test_summary_of_another_form(capsys):
    options = ["--input-size", "24x40", "--channels", "1", "--classes", "7", "--option", "width=8"]
    last = lines(capsys, "summary", "resnet20", *options)[-1]
    network = models.resnet20(7, 1, input_size=(24, 40), width=8)
    assert last.startswith(f"{analysis.count_parameters(network):,} parameters, {analysis.count_flops(network):,} ")


def test_summary_of_pixels_scores(capsys):
    assert lines(capsys, "summary", "unet", "--input-size", "140", "--option", "depth=2")[-1].endswith("of outputs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "wide=8"], "--option: resnet_cifar() got an unexpected keyword argument 'wide'"),
        (["--option", "width=many"], "--option: resnet_cifar: `width` must be an integer, got 'many'"),
        (["--option", "width"], "--option must be NAME=VALUE, such as width=8, got 'width'"),
        (["--option", "num_classes=3"], "--option num_classes: say it by --data"),
        (["--classes", "-1"], "summary resnet20: `num_classes` must be at least 1, got -1"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert cli.main(["summary", "resnet20", *arguments]) == 2
    assert capsys.readouterr().err == f"cyconv: error: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["summary", "nonet"], "there is no network 'nonet'; `cyconv models` lists them"),
        (["train", "--model", "unet"], "unet does not give the classes of images, which the data sets here have"),
        (["summary", "resnet20", "--input-size", "0"], "argument --input-size: invalid"),
        (["summary", "resnet20", "--input-size", "32xx"], "argument --input-size: invalid"),
    ],
)
def test_usage_errors(arguments, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [("--channels", "`input_shape` must be at least 1"), ("--classes", "`num_classes` must be at least 1")],
)
def test_zero_is_not_the_default(capsys, option, message):
    assert cli.main(["summary", "resnet20", option, "0"]) != 0
    assert message in capsys.readouterr().err
