defmodule Image.ZeroShot.DocsTest do
  # What bin/docs says of an ExDoc that cannot work, before anything is compiled.
  use ExUnit.Case, async: true

  import Image.ZeroShot.Packaging, only: [root: 0]

  @moduletag :tmp_dir

  # An escript as Mix builds one, with the Elixir of this version in it.
  defp ex_doc!(dir, version) do
    app = ~s({application,elixir,[{description,"elixir"},{vsn,"#{version}"}]}.)
    path = Path.join(dir, "ex_doc")
    archive = {:archive, [{~c"elixir.app", app}, {~c"ex_doc.beam", "no code"}], []}
    {:ok, escript} = :escript.create(:binary, [:shebang, archive])
    File.write!(path, escript)
    File.chmod!(path, 0o755)
    path
  end

  defp docs(ex_doc) do
    System.cmd(Path.join(root(), "bin/docs"), [],
      cd: root(),
      env: [{"EX_DOC", ex_doc}],
      stderr_to_stdout: true
    )
  end

  test "an ExDoc that was built with another Elixir is named in one line", %{tmp_dir: dir} do
    ex_doc = ex_doc!(dir, "1.3.4")
    assert {told, 1} = docs(ex_doc)

    assert told ==
             "bin/docs: #{ex_doc} was built with Elixir 1.3.4, and this is #{System.version()}: run " <>
               "`mix escript.install --force hex ex_doc` with this Elixir\n"
  end

  if Version.match?(System.version(), "< 1.15.0") do
    test "an Elixir that ExDoc does not run on is named in one line", %{tmp_dir: dir} do
      for ex_doc <- [ex_doc!(dir, System.version()), "/bin/true"] do
        assert docs(ex_doc) ==
                 {"bin/docs: ExDoc needs Elixir 1.15 or later, and this is #{System.version()}\n",
                  1}
      end
    end
  end
end
