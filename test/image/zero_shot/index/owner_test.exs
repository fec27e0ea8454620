defmodule Image.ZeroShot.Index.OwnerTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.{Embedding, Error, Index}

  @moduletag :tmp_dir

  defp vector do
    {:ok, embedding} = Embedding.from_binary(<<1.0::float-32-little>>, model: "m")
    embedding
  end

  defp kill(name) do
    pid = Process.whereis(name)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^pid, :killed}
    await(name, pid)
  end

  defp await(name, old) do
    if Process.whereis(name) in [nil, old] do
      Process.sleep(5)
      await(name, old)
    end
  end

  test "a supervised index has a name, and its file is written at the end", %{tmp_dir: dir} do
    path = Path.join(dir, "photos.index")
    spec = {Index, name: __MODULE__.Photos, path: path, storage: :f16}
    {:ok, supervisor} = Supervisor.start_link([spec], strategy: :one_for_one)
    photos = __MODULE__.Photos
    assert Index.put(photos, "a", vector()) == :ok
    assert Index.nearest(photos, vector()) == {:ok, [%{id: "a", score: 1.0}]}
    assert Index.info(photos).storage == :f16
    refute File.exists?(path)
    :ok = Supervisor.stop(supervisor)

    assert {:error, %Error{reason: :index_down, message: message}} =
             Index.nearest(photos, vector())

    assert message =~ "the index #{inspect(photos)} is not started, or is restarting"
    assert_raise Error, fn -> Index.size(photos) end

    {:ok, supervisor} = Supervisor.start_link([spec], strategy: :one_for_one)
    assert Index.member?(photos, "a")
    written = File.stat!(path).mtime
    :ok = Supervisor.stop(supervisor)
    assert File.stat!(path).mtime == written
  end

  test "a killed process starts again with what was saved", %{tmp_dir: dir} do
    path = Path.join(dir, "photos.index")
    start_supervised!({Index, name: __MODULE__.Killed, path: path})
    index = __MODULE__.Killed
    :ok = Index.put(index, 1, vector())
    :ok = Index.save(index, path)
    :ok = Index.put(index, 2, vector())
    kill(index)
    assert index |> Index.ids() |> Enum.sort() == [1]
  end

  test "a damaged file stops the start, in words", %{tmp_dir: dir} do
    path = Path.join(dir, "photos.index")
    File.write!(path, "something else")
    Process.flag(:trap_exit, true)

    assert {:error, %Error{reason: :invalid_index_file}} =
             Index.start_link(name: __MODULE__.Damaged, path: path)
  end

  test "a wrong option raises before anything is started" do
    assert_raise ArgumentError, ~r/unknown option :nam/, fn -> Index.start_link(nam: :x) end
    assert_raise ArgumentError, ~r/expected :name to be an atom/, fn -> Index.start_link([]) end
  end

  test "a place without a directory stops the start", %{tmp_dir: dir} do
    path = Path.join(dir, "no/photos.index")
    Process.flag(:trap_exit, true)

    assert {:error, %Error{reason: :not_found, message: message}} =
             Index.start_link(name: __MODULE__.Nowhere, path: path)

    assert message ==
             "#{inspect(path)}: the directory #{inspect(Path.dirname(path))} does not exist"
  end

  test "a process of another kind is not asked" do
    pid = start_supervised!({Agent, fn -> :state end})
    Process.register(pid, __MODULE__.Other)

    for other <- [pid, __MODULE__.Other, self()] do
      assert_raise ArgumentError, ~r/which is another process$/, fn -> Index.size(other) end
    end

    assert Agent.get(pid, & &1) == :state
    refute_received _message
  end

  test "a process that has ended is down" do
    index = start_supervised!({Index, name: __MODULE__.Ended})
    assert Index.size(index) == 0
    stop_supervised!(__MODULE__.Ended)
    assert {:error, %Error{reason: :index_down}} = Index.put(index, 1, vector())
    assert {:error, %Error{reason: :index_down}} = Index.put(__MODULE__.Ended, 1, vector())
  end
end
