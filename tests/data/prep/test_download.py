from data.prep import download


def test_the_command_wants_a_name_exactly_where_one_belongs(tmp_path, capsys):
    assert download.main(["kaggle", "--out", str(tmp_path)]) == 1
    assert download.main(["public", "me/set", "--out", str(tmp_path)]) == 1
    assert "need one" in capsys.readouterr().err
