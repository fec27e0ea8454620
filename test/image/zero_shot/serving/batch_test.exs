defmodule Image.ZeroShot.Serving.BatchTest do
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Serving.{Batch, Request}
  alias Image.ZeroShot.Test.Runner

  defp request(name, pixels, prompts) do
    %Request{
      caller: self(),
      owner: self(),
      reply_to: name,
      deadline: :infinity,
      since: 0,
      pixels: pixels,
      prompts: prompts
    }
  end

  # What each request gets of a run.
  defp shares(requests) do
    batch = Batch.new(requests)
    shares = Batch.divide(batch, Runner.embeddings(batch.pixels, batch.prompts))
    Map.new(shares, fn {request, share} -> {request.reply_to, share} end)
  end

  test "holds all pictures in order, and each prompt once" do
    batch =
      Batch.new([
        request(:one, [<<1>>, <<2>>], ["a", "bb"]),
        request(:two, [<<1>>], ["bb", "ccc", "a"])
      ])

    assert batch.pixels == [<<1>>, <<2>>, <<1>>]
    assert batch.prompts == ["a", "bb", "ccc"]
    assert Batch.work(batch) == 3 * 16 + 3
  end

  test "each request gets the rows it asked for, in its own order" do
    requests = [
      request(:pictures, [<<1>>, <<2>>], []),
      request(:both, [<<3>>], ["bb", "a"]),
      request(:prompts, [], ["a", "ccc", "bb"])
    ]

    for %{reply_to: name, pixels: pixels, prompts: prompts} <- requests,
        do: assert(shares(requests)[name] == Runner.embeddings(pixels, prompts))
  end

  test "a prompt that was cut is told to everyone who asked for it, at its place there" do
    requests = [
      request(:one, [], ["a", "too long"]),
      request(:two, [], ["too long", "b", "a"]),
      request(:three, [], ["b"])
    ]

    assert %{one: {"", _, [1]}, two: {"", _, [0]}, three: {"", _, []}} = shares(requests)
  end

  test "a request with the same prompt twice gets two rows, alone or with others" do
    request = request(:twice, [], ["too long", "a", "too long"])
    expected = Runner.embeddings([], request.prompts)
    assert shares([request]).twice == expected
    assert shares([request, request(:other, [<<1>>], ["b"])]).twice == expected
  end

  test "no share keeps the rows of others alive" do
    requests = for n <- 1..100, do: request(n, [<<n>>, <<n>>], ["prompt #{n}", "other #{n}"])

    for {_name, {images, texts, []}} <- shares(requests), rows <- [images, texts] do
      assert byte_size(rows) == 8
      assert :binary.referenced_byte_size(rows) < 200
    end
  end

  test "shows neither pictures nor prompts where it is inspected" do
    shown = inspect(Batch.new([request(:one, ["secret pixels"], ["secret prompt"])]))
    refute shown =~ "secret"
  end
end
