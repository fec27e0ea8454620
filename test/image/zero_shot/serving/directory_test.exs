defmodule Image.ZeroShot.Serving.DirectoryTest do
  # Stops the application.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Image.ZeroShot.Test.{Servings, Wait}

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.Started
  alias Image.ZeroShot.Serving.{Directory, Gate, Handle, Server}
  alias Image.ZeroShot.Test.Runner

  defp name, do: {:name, :"Directory#{System.unique_integer([:positive])}"}

  test "a serving is found by its key, with its gate and the facts of its model" do
    opts = Runner.ready()
    assert Directory.lookup({:model, opts.id}) == nil
    server = start(opts)
    assert {^server, %{info: %{name: "stand-in"}, error: nil} = entry} = lookup(opts)
    assert Gate.open?(entry.gate)
    assert Directory.lookup({:name, opts.id}) == nil
  end

  test "a serving whose model is being loaded is found too" do
    opts = Runner.opts()
    server = Server.start_child({:model, opts.id}, opts)
    assert_receive {:opening, loader}
    assert {^server, %{info: nil, error: nil}} = lookup(opts)
    send(loader, {:open, {:error, %Error{reason: :io, message: "no such luck"}}})
    eventually(fn -> lookup(opts) == nil end)
  end

  test "of callers who start a serving at once one does, and all have it" do
    opts = Runner.ready()
    on_exit(fn -> Serving.Client.unload(opts) end)
    start = fn -> Server.start_child({:model, opts.id}, opts) end
    servers = 1..20 |> Enum.map(fn _ -> Task.async(start) end) |> await_all()
    assert [server] = Enum.uniq(servers)
    assert {^server, _entry} = lookup(opts)
  end

  test "a serving is not found once it has ended, nor after it hid itself" do
    opts = Runner.ready()
    server = start(opts)
    Handle.unload(server)
    assert lookup(opts) == nil

    key = name()
    test = self()

    hidden =
      spawn_link(fn ->
        :ok = Directory.claim(key)
        :ok = Directory.announce(key)
        send(test, :there)
        receive do: (:hide -> send(test, {:hidden, Directory.remove(key)}))
        receive do: (:stop -> :ok)
      end)

    assert_receive :there
    assert {^hidden, nil} = Directory.find(key)
    send(hidden, :hide)
    assert_receive {:hidden, :ok}
    assert Directory.find(key) == nil
    assert :pg.get_members(Image.ZeroShot.Serving.Cluster, key) == []
    send(hidden, :stop)
  end

  test "a key has one process, and claiming it twice changes nothing" do
    key = name()
    assert Directory.claim(key) == :ok
    assert Directory.claim(key) == :ok
    assert Directory.find(key) == {self(), nil}

    assert await(Task.async(fn -> Directory.claim(key) && Directory.find(key) end)) ==
             {self(), nil}
  end

  test "the servings of other nodes are found, this node's are not" do
    key = name()
    :ok = Directory.announce(key)
    assert :pg.get_members(Image.ZeroShot.Serving.Cluster, key) == [self()]
    assert Directory.others(key) == []
    # Only what has a name is for other nodes.
    :ok = Directory.announce({:model, key})
    assert :pg.get_members(Image.ZeroShot.Serving.Cluster, {:model, key}) == []
  end

  test "the facts about a name's model are remembered, but not as those of another model" do
    key = name()
    assert Directory.remembered(key, :one) == nil
    :ok = Directory.remember(key, :one, %{dim: 3})
    assert Directory.remembered(key, :one) == %{dim: 3}
    assert Directory.remembered(key, :two) == nil
    assert Directory.remembered(name(), :one) == nil
  end

  test "restarts are kept by name" do
    key = name()
    assert Directory.restarts(key) == []
    :ok = Directory.put_restarts(key, [2, 1])
    assert Directory.restarts(key) == [2, 1]
    assert Directory.restarts(name()) == []
  end

  test "without the application nothing is found, and nothing raises" do
    on_exit(fn -> {:ok, _} = Application.ensure_all_started(:image_zero_shot) end)
    assert Started.check() == :ok
    capture_log(fn -> :ok = Application.stop(:image_zero_shot) end)
    key = name()
    refute Started.started?()
    assert {:error, %Error{reason: :serving_down}} = Started.check()
    assert {:error, %Error{reason: :serving_down}} = Server.start_child(key, Runner.ready())
    assert Directory.lookup(key) == nil
    assert Directory.others(key) == []
    assert Directory.remembered(key, :one) == nil
    assert Directory.remember(key, :one, %{}) == :ok
    assert Directory.restarts(key) == []
    assert Directory.announce(key) == :ok
  end

  defp lookup(opts), do: Directory.lookup({:model, opts.id})
end
