defmodule Image.ZeroShot.Stub.NodesTest do
  # Stubs in tests that start other nodes.
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Wait

  alias Image.ZeroShot.Test, as: Stub
  alias Image.ZeroShot.Test.Cluster

  @moduletag timeout: 120_000

  setup_all do: Cluster.peer()

  defp label(name) do
    "Image.ZeroShot.label({:rgb, <<0, 0, 0>>, 1, 1}, [~s(cat), ~s(dog)], serving: #{inspect(name)})"
  end

  # The value as text, or the message of what the code raises.
  defp here(code) do
    code = "try do inspect((#{code})) rescue error -> Exception.message(error) end"
    code |> Code.eval_string() |> elem(0)
  end

  defp there(peer, code) do
    code = "try do inspect((#{code})) rescue error -> Exception.message(error) end"
    peer.control |> :peer.call(Code, :eval_string, [code], 60_000) |> elem(0)
  end

  defp stubbed(peer, name) do
    start_supervised!({Stub, name: name})
    Stub.stub(name, "dog")
    assert here(label(name)) == ~s("dog")
    # The other node may not have heard of it yet.
    info = "elem(Image.ZeroShot.info(serving: #{inspect(name)}), 0)"
    eventually(fn -> there(peer, info) == ":ok" end)
    name
  end

  defp start(name),
    do: "{:ok, stub} = #{inspect(Stub)}.start_link(name: #{inspect(name)}); Process.unlink(stub)"

  test "a stub answers calls of its own node, and another node is told so", %{peer: peer} do
    name = stubbed(peer, __MODULE__.Alone)

    assert there(peer, label(name)) =~
             "no stub of the name #{inspect(name)} is running on this node"
  end

  test "on each node a process stubs and calls for itself", %{peer: peer} do
    name = stubbed(peer, __MODULE__.Each)
    stub = "#{inspect(Stub)}.stub(#{inspect(name)}, ~s(cat))"
    assert there(peer, "#{start(name)}; #{stub}; #{label(name)}") == ~s("cat")
    assert there(peer, label(name)) =~ "nothing is stubbed for #{inspect(name)}"
    assert here(label(name)) == ~s("dog")
  end

  test "a process that lives on there shares its stub", %{peer: peer} do
    name = stubbed(peer, __MODULE__.Shared)

    assert there(peer, """
           #{start(name)}
           test = self()

           spawn(fn ->
             #{inspect(Stub)}.stub(#{inspect(name)}, "cat")
             send(test, #{inspect(Stub)}.share(#{inspect(name)}))
             Process.sleep(:infinity)
           end)

           receive do: (:ok -> :shared)
           """) == ":shared"

    assert there(peer, label(name)) == ~s("cat")
    assert here(label(name)) == ~s("dog")
  end
end
